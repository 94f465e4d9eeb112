"""What can be moved: a source names its scopes and gives the pairs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from iii_skill.adapter import StateAdapter, settled

BOOKKEEPING = {
    "__state_private_namespaces": "it is the upstream state worker's list of private namespaces",
    "state_barrier": "it holds the upstream state worker's barriers",
}
"""Scopes of the real engine's side that are no state of workers."""


@dataclass(frozen=True)
class Omission:
    """One thing that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ScopePairs:
    """The pairs of a scope in order of first insertion, and the keys that could not be read."""

    scope: str
    pairs: Sequence[tuple[str, bytes]]
    damaged: Sequence[Omission] = ()


class StateSource(Protocol):
    """Where state comes from."""

    skipped: list[Omission]
    """What is left out on purpose."""
    damaged: list[Omission]
    """What could not even be named as a scope."""

    async def scopes(self) -> Sequence[str]:
        """Every scope, sorted."""

    async def read(self, scope: str) -> ScopePairs:
        """All of one scope; Damaged when it cannot be read."""

    async def close(self) -> None:
        """Release it."""


class AdapterSource:
    """An opened adapter as source; `engine` says that a real engine wrote into it."""

    def __init__(self, adapter: StateAdapter, *, engine: bool = False) -> None:
        self._adapter = adapter
        self._engine = engine
        self.skipped: list[Omission] = []
        self.damaged: list[Omission] = []

    async def scopes(self) -> Sequence[str]:
        """Every scope of the adapter but the engine's bookkeeping."""
        scopes = sorted(await settled(self._adapter.scopes()))
        if self._engine:
            self.skipped += [Omission(name, BOOKKEEPING[name]) for name in scopes if name in BOOKKEEPING]
            scopes = [name for name in scopes if name not in BOOKKEEPING]
        return scopes

    async def read(self, scope: str) -> ScopePairs:
        """All pairs; a key that the adapter lists without a value is damaged."""
        pairs = await settled(self._adapter.list(scope))
        keys = await settled(self._adapter.keys(scope))
        missing = set(keys) - {key for key, _ in pairs}
        damaged = [Omission(f"{scope}/{key}", "its value is no JSON") for key in keys if key in missing]
        return ScopePairs(scope, pairs, damaged)

    async def close(self) -> None:
        await self._adapter.close()
