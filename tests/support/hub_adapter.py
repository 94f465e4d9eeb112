"""HubAdapter: a small correct shared adapter (hosts of one process meet in a hub), to seed mistakes into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec
from iii_state_memory import MemoryAdapter

from iii_skill.adapter import StateAdapter
from iii_skill.values import Change, ChangeFunction, Durability


@dataclass
class Hub:
    """What all hosts of one name share."""

    memory: MemoryAdapter = field(default_factory=MemoryAdapter)
    readers: list[asyncio.Queue[Change]] = field(default_factory=list)


HUBS: dict[str, Hub] = {}


class HubConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which hub."""

    hub: str


class HubAdapter(StateAdapter):
    """All calls go to the hub's memory; every Change goes to every reader."""

    name: ClassVar[str] = "hub"
    durability: ClassVar[Durability] = Durability.NONE
    shared: ClassVar[bool] = True
    config_type: ClassVar[type[msgspec.Struct]] = HubConfig

    async def open(self, config: HubConfig) -> None:
        self.hub = HUBS.setdefault(config.hub, Hub())

    async def close(self) -> None:
        pass

    def get(self, scope: str, key: str) -> bytes | None:
        return self.hub.memory.get(scope, key)

    def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        return self.hub.memory.list(scope)

    def scopes(self) -> Sequence[str]:
        return self.hub.memory.scopes()

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = self.hub.memory.update(scope, key, change)
        if not done.kept:
            self.tell(done)
        return done

    def tell(self, change: Change) -> None:
        """Hand the change to every reader."""
        for reader in self.hub.readers:
            reader.put_nowait(change)

    async def changes(self) -> AsyncIterator[Change]:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self.hub.readers.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.hub.readers.remove(queue)
