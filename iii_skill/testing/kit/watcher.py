"""Watcher: what one host hears of the changes, with probes that tell when it really listens."""

from __future__ import annotations

import asyncio

from iii_skill.testing.subject import ContractBroken, OpenedAdapter
from iii_skill.values import Change

CANCEL_AGAIN = 0.5
QUIET = 10.0
"""Seconds without a change after which the rest is missing."""


class Watcher:
    """Reads `changes()` of one store; made with `watch`, which waits until it really listens."""

    def __init__(self, store: OpenedAdapter) -> None:
        self.seen: list[Change] = []
        self._probes: set[bytes | None] = set()
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(store))

    async def _read(self, store: OpenedAdapter) -> None:
        try:
            async for change in store.adapter.changes():
                if change.scope == "probe":
                    self._probes.add(change.new)
                else:
                    self.seen.append(change)
                self._news.set()
        finally:
            self._news.set()  # Whoever waits sees that it ended.

    async def heard(self, probe: bytes) -> bool:
        """True as soon as the probe came by, False when 50 ms passed without any news."""
        while probe not in self._probes:
            self._news.clear()
            self._expect_reading()
            try:
                await asyncio.wait_for(self._news.wait(), 0.05)
            except TimeoutError:
                return False
        return True

    async def collect(self, count: int) -> None:
        """Wait until `count` changes were seen or none came for a while."""
        while len(self.seen) < count:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), QUIET)
            except TimeoutError:
                return

    async def hears(self, change: Change) -> None:
        """Wait until this change was seen."""
        while change not in self.seen:
            self._news.clear()
            self._expect_reading()
            await self._news.wait()

    def _expect_reading(self) -> None:
        if self._task.done():
            raise ContractBroken(f"`changes()` ended by itself: {_end(self._task)}.")

    async def stop(self) -> None:
        """Cancel the reader, again and again as the host does: Python 3.11 can lose a cancellation."""
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_AGAIN)


async def watch(store: OpenedAdapter, writer: OpenedAdapter) -> Watcher:
    """A watcher that has seen a probe, so that everything written from now on has to come."""
    watcher = Watcher(store)
    number = 0
    while True:
        number += 1
        probe = b'"start %d %d"' % (id(watcher), number)
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
