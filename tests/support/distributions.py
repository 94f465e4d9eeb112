"""Small real distributions on disk: a module, its metadata and its entry points."""

from __future__ import annotations

import textwrap
from importlib import metadata
from pathlib import Path

GROUP = "iii_skill"

ADAPTER = """
import iii_skill


class {cls}(iii_skill.StateAdapter):
    name = "{name}"
    durability = iii_skill.Durability.NONE

    async def open(self, config): pass
    async def close(self): pass
    def get(self, scope, key): return None
    def list(self, scope): return []
    def scopes(self): return []
    def update(self, scope, key, change): return iii_skill.Change(scope, key, None, None, 0)


@iii_skill.hookimpl
def iii_state_adapters():
    return [{cls}]
"""


def adapter_source(name: str, *, cls: str = "Adapter") -> str:
    """A plugin module with one complete adapter."""
    return ADAPTER.format(name=name, cls=cls)


def install(
    site: Path, package: str, source: str, *, version: str = "1.2.3", entry_point: str | None = None
) -> str:
    """Write the distribution `package` with one module and one entry point; gives the module's name."""
    module = package.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(source), "utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_point or module} = {module}\n", "utf-8")
    return module


def entry_points(site: Path) -> list[metadata.EntryPoint]:
    """The entry points of every distribution in `site`."""
    found = metadata.distributions(path=[str(site)])
    return [point for dist in found for point in dist.entry_points if point.group == GROUP]
