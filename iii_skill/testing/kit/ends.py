"""Ends: what one host hears of the keys that are over, and how checks make keys that are."""

from __future__ import annotations

from iii_skill.adapter import Expiry
from iii_skill.testing.kit.watcher import Watcher, drain, watch
from iii_skill.testing.subject import OpenedAdapter, Subject, expect
from iii_skill.values import Change

HOUR_MS = 3_600_000
FAR_MS = 2**53 - 1
NEVER = Expiry(True)
ABSENT = Expiry(False)


class ToldChanges:
    """What one host is told of the changes of a store."""

    def __init__(self, store: OpenedAdapter, watcher: Watcher | None) -> None:
        self._store = store
        self._watcher = watcher
        self.told: list[Change] = []

    async def all(self, count: int) -> list[Change]:
        """The deletes that were told, once there are as many, and what was told too much."""
        if self._watcher is not None:
            watcher, self._watcher = self._watcher, None
            while len([c for c in watcher.seen if c.new is None]) < count:
                before = len(watcher.seen)
                await watcher.collect(before + 1)
                if len(watcher.seen) == before:
                    break
            self.told = await drain(watcher, self._store, len(watcher.seen))
        return [change for change in self.told if change.new is None]


async def listen(store: OpenedAdapter) -> ToldChanges:
    """Hear of every end from now on."""
    if store.adapter.shared:
        return ToldChanges(store, await watch(store, store))
    ends = ToldChanges(store, None)
    store.adapter.on_expired = ends.told.append
    return ends


def now_ms(subject: Subject) -> int:
    return subject.clock.now_ms()


async def sweep_all(store: OpenedAdapter, subject: Subject) -> int | None:
    """Sweep until nothing is over; when the next key ends."""
    for _ in range(1_000):
        following = await store.sweep()
        if following is None or following > now_ms(subject):
            return following
    expect(False, "1,000 sweeps did not delete all that is over.")
    return None


async def over(subject: Subject, store: OpenedAdapter, key: str = "key", value: bytes = b'"old"') -> None:
    """A key of `scope` whose end has come."""
    await store.set("scope", key, value)
    await store.expire("scope", key, now_ms(subject) + HOUR_MS)
    subject.clock.advance(HOUR_MS / 1000)
