"""The adapter `memory`: dictionaries in the host's process, gone when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from iii_skill import hookimpl
from iii_skill.adapter import ChangeFunction, StateAdapter
from iii_skill.values import KEEP, Change, Durability


class MemoryAdapter(StateAdapter):
    """A dictionary per scope; dictionaries keep first-insertion order by themselves."""

    name: ClassVar[str] = "memory"
    durability: ClassVar[Durability] = Durability.NONE

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, bytes]] = {}
        self._revision = 0

    async def open(self, config: Any) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Forget everything."""
        self._scopes.clear()

    def get(self, scope: str, key: str) -> bytes | None:
        """The stored bytes or None."""
        keys = self._scopes.get(scope)
        return None if keys is None else keys.get(key)

    def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs of the scope in order of first insertion."""
        return list(self._scopes.get(scope, {}).items())

    def keys(self, scope: str) -> Sequence[str]:
        """All keys of the scope in order of first insertion."""
        return list(self._scopes.get(scope, {}))

    def scopes(self) -> Sequence[str]:
        """Every scope that holds a key."""
        return list(self._scopes)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """Run `change` and store the outcome; the event loop is the atomic section."""
        keys = self._scopes.get(scope)
        old = None if keys is None else keys.get(key)
        new = change(old)
        if new is KEEP:
            return Change(scope, key, old, old, 0)
        self._revision += 1
        if new is not None:
            if keys is None:
                keys = self._scopes.setdefault(scope, {})
            keys[key] = new
        elif keys is not None and old is not None:
            del keys[key]
            if not keys:
                del self._scopes[scope]
        return Change(scope, key, old, new, self._revision)


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (MemoryAdapter,)
