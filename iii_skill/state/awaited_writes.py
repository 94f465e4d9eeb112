"""AwaitedWrites: own writes out of triggers or traces that a shared store has not answered yet.

The stream of such a store may tell of a write before its answer is here, and only the answer says which
revision is the own one. Events of those keys wait for it, in order; those of all others do not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from iii_skill.adapter_answers import Done, Failed
from iii_skill.values import Change

Place: TypeAlias = tuple[str, str]

LONGEST_S = 5.0
"""Seconds that an event waits for an answer: a store that never answers one holds nothing back for ever."""

MOST_EVENTS = 1000
"""Events that may wait, of all keys together."""


class AwaitedWrites:
    """The keys with such writes, and the events that wait for their answers."""

    def __init__(self, release: Callable[[Change], None]) -> None:
        """`release` gets each event that waited."""
        self._release = release
        self._keys: dict[Place, _Key] = {}
        self._events = 0
        self._numbers = 0

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, place: Place, done: Done, failed: Failed) -> tuple[Done, Failed]:
        """A write of the key is under way: what is to listen to its answer in place of these two."""
        key = self._keys.get(place)
        if key is None:
            key = self._keys[place] = _Key(place)
        self._numbers = number = self._numbers + 1
        key.writes[number] = None

        def was_done(subject: Any, change: Change) -> None:
            try:
                done(subject, change)
            except BaseException:
                self._answered(key, number, 0)
                raise
            self._answered(key, number, change.revision)

        def has_failed(subject: Any, error: BaseException) -> None:
            try:
                failed(subject, error)
            finally:
                self._answered(key, number, 0)

        return was_done, has_failed

    def holds(self, change: Change, *, known: bool) -> bool:
        """Whether this event waits, as it may be of a write under way. `known`: it is of an answered one."""
        key = self._keys.get((change.scope, change.key))
        if key is None or (not key.events and (known or change.revision <= key.newest)):
            # The answers of a key come in order: one below the newest is answered, or somebody else's.
            return False
        if self._events >= MOST_EVENTS:
            self._give_up(key)
            return False
        if not key.events:
            key.timer = asyncio.get_running_loop().call_later(LONGEST_S, self._give_up, key)
        key.events.append((self._numbers, change))
        self._events += 1
        return True

    def close(self) -> None:
        """Nothing is told any more."""
        for key in self._keys.values():
            key.stop()
            key.events.clear()
        self._keys.clear()
        self._events = 0

    def _answered(self, key: _Key, number: int, revision: int) -> None:
        key.writes.pop(number, None)
        if revision > key.newest:
            key.newest = revision
        if key.telling:
            # What is told of an event made a write that was answered at once: the loop below goes on.
            return
        if key.events:
            key.telling = True
            try:
                while key.events and key.ready:
                    self._next(key)
            finally:
                key.telling = False
            if key.events:
                return
            key.stop()
        if not key.writes and self._keys.get(key.place) is key:
            del self._keys[key.place]

    def _give_up(self, key: _Key) -> None:
        """Go on without the answers: what led to these events is not known."""
        key.stop()
        try:
            while key.events:
                self._next(key)
        finally:
            if key.events:
                # One could not be told: the others are, in a turn of their own.
                key.timer = asyncio.get_running_loop().call_later(0, self._give_up, key)
            else:
                key.stop()
                if self._keys.get(key.place) is key:
                    del self._keys[key.place]

    def _next(self, key: _Key) -> None:
        _, change = key.events.popleft()
        self._events -= 1
        self._release(change)


class _Key:
    __slots__ = ("events", "newest", "place", "telling", "timer", "writes")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.writes: dict[int, None] = {}
        """The numbers of those under way, the oldest first."""
        self.newest = 0
        """The revision of the last answer."""
        self.events: deque[tuple[int, Change]] = deque()
        """What waits, each with the number of the last write that had begun when it came."""
        self.timer: asyncio.TimerHandle | None = None
        self.telling = False

    @property
    def ready(self) -> bool:
        """Whether every write that was under way when the first event came is answered, or a later one."""
        last, change = self.events[0]
        oldest = next(iter(self.writes), None)
        return change.revision <= self.newest or oldest is None or oldest > last

    def stop(self) -> None:
        """Nothing waits any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
