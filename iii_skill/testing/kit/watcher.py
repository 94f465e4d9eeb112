"""Watcher: what one host hears of the changes, with probes that tell when it really listens."""

from __future__ import annotations

import asyncio

from iii_skill.testing.subject import ContractBroken, OpenedAdapter
from iii_skill.values import Change


class Watcher:
    """Reads `changes()` of one store; made with `watch`, which waits until it really listens."""

    def __init__(self, store: OpenedAdapter) -> None:
        self.seen: list[Change] = []
        self._probes: set[bytes | None] = set()
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(store))

    async def _read(self, store: OpenedAdapter) -> None:
        async for change in store.adapter.changes():
            if change.scope == "probe":
                self._probes.add(change.new)
            else:
                self.seen.append(change)
            self._news.set()

    async def heard(self, probe: bytes) -> bool:
        """True as soon as the probe came by, False when 50 ms passed without any news."""
        while probe not in self._probes:
            self._news.clear()
            if self._task.done():
                raise ContractBroken(f"`changes()` ended by itself: {_end(self._task)}.")
            try:
                await asyncio.wait_for(self._news.wait(), 0.05)
            except TimeoutError:
                return False
        return True

    async def collect(self, count: int) -> None:
        """Wait until `count` changes were seen or none came for 3 s."""
        while len(self.seen) < count:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 3)
            except TimeoutError:
                return

    async def hears(self, change: Change) -> None:
        """Wait until this change was seen."""
        while change not in self.seen:
            self._news.clear()
            await self._news.wait()

    async def stop(self) -> None:
        """Cancel the reader."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def watch(store: OpenedAdapter, writer: OpenedAdapter) -> Watcher:
    """A watcher that has seen a probe, so that everything written from now on has to come."""
    watcher = Watcher(store)
    number = 0
    while True:
        number += 1
        probe = b'"start %d"' % number
        await writer.set("probe", "key", probe)
        if await watcher.heard(probe):
            return watcher


async def drain(watcher: Watcher, writer: OpenedAdapter, count: int) -> list[Change]:
    """What the watcher sees until `count` changes came, and up to a later probe for what is too much."""
    await watcher.collect(count)
    for probe in (b'"end"', b'"after"'):
        await writer.set("probe", "key", probe)
        while not await watcher.heard(probe):
            pass
    await watcher.stop()
    return watcher.seen


def _end(task: asyncio.Task[None]) -> str:
    if task.cancelled():
        return "cancelled"
    return repr(task.exception()) if task.exception() else "no more changes"
