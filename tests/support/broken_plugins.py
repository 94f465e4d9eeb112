"""Broken plugins, each a distribution of its own: what its module holds and why it is left out."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = """
import iii_skill


class Base(iii_skill.StateAdapter):
    durability = iii_skill.Durability.NONE

    async def open(self, config): pass
    async def close(self): pass
    def get(self, scope, key): return None
    def list(self, scope): return []
    def scopes(self): return []
    def update(self, scope, key, change): return iii_skill.Change(scope, key, None, None, 0)

"""


@dataclass(frozen=True)
class Broken:
    """A distribution `acme-iii-<what>` 0.1.0 with one module; `reasons` are found in the report on it."""

    what: str
    source: str
    reasons: tuple[str, ...]

    @property
    def package(self) -> str:
        """The name of the distribution."""
        return f"acme-iii-{self.what}"

    @property
    def module(self) -> str:
        """The name of its module and entry point."""
        return self.package.replace("-", "_")


BROKEN = (
    Broken(
        "import-error",
        "import a_library_that_is_not_installed\n",
        ("ModuleNotFoundError", "a_library_that_is_not_installed"),
    ),
    Broken(
        "wrong-hook",
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(config): return []\n",
        ("iii_state_adapters", "config"),
    ),
    Broken(
        "unknown-hook",
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adaptors(): return []\n",
        ("iii_state_adaptors",),
    ),
    Broken(
        "missing-method",
        HEAD + "class Half(Base):\n    name = 'half'\n    update = iii_skill.StateAdapter.update\n"
        "    scopes = iii_skill.StateAdapter.scopes\n\n"
        "@iii_skill.hookimpl\ndef iii_state_adapters(): return [Half]\n",
        ("Half", "scopes", "update"),
    ),
    Broken(
        "raising-hook",
        HEAD + "@iii_skill.hookimpl\ndef iii_state_adapters(): raise RuntimeError('no licence')\n",
        ("iii_state_adapters", "no licence"),
    ),
    Broken(
        "same-name",
        HEAD + "class Other(Base):\n    name = 'lmdb'\n\n"
        "@iii_skill.hookimpl\ndef iii_state_adapters(): return [Other]\n",
        ("lmdb", "acme-iii-lmdb 0.3.0", "acme-iii-same-name 0.1.0"),
    ),
)

SULKY = Broken(
    "sulky",
    HEAD + "class Sulky(Base):\n    name = 'sulky'\n\n"
    "    async def open(self, config): raise RuntimeError('the tape is not in the drive')\n\n"
    "@iii_skill.hookimpl\ndef iii_state_adapters(): return [Sulky]\n",
    ("sulky", "the tape is not in the drive"),
)
