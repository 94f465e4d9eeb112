"""ChangeLog: the latest changes of all keys in one order, so that a listener can go on after a break.

A cursor is `<epoch>-<n>`: the n-th change of an epoch. An epoch ends with the host, and wherever a change may
have been missed (the change stream of a shared store broke). A cursor of another epoch, or of a change that
made room for newer ones, is refused: a listener is told of a gap, it never meets one unknowingly.
Nothing is recorded, and nothing costs anything, until somebody asks for the first time. Then a change is put
on a list; what changed in a few milliseconds is one batch, with one time, and batches make room as wholes.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice

import msgspec

from iii_skill.errors import CallerError, CursorTooOld
from iii_skill.values import Change

KEEP_CHANGES = 10_000
KEEP_BYTES = 16 * 1024 * 1024
_OVERHEAD = 200
"""Bytes that a change takes beside its names and values."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One change, its number in the epoch, and when it was recorded (ms since 1970)."""

    number: int
    change: Change
    at_ms: int


class _Batch(msgspec.Struct, frozen=True):
    """Changes that were recorded together; the first has the number `first`."""

    first: int
    changes: list[Change]
    at_ms: int
    size: int

    def told(self) -> Iterator[Recorded]:
        """Each with its number."""
        for number, change in enumerate(self.changes, self.first):
            yield Recorded(number, change, self.at_ms)


class ChangeLog:
    """The last `keep` changes at least, in about `keep_bytes` at most; `now_ms` is the clock."""

    def __init__(
        self, now_ms: Callable[[], int], *, keep: int = KEEP_CHANGES, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.recording = False
        self.epoch = _fresh_epoch()
        self.on_append: Callable[[], None] | None = None
        """Called after the first change of a batch: `settle` is to be called soon."""
        self._now_ms = now_ms
        self._keep = keep
        self._keep_bytes = keep_bytes
        # A batch is a 64th of what is kept at most: so much more than needed goes when the oldest makes room.
        self._most = max(1, min(keep, keep_bytes // _OVERHEAD) // 64)
        self._most_bytes = keep_bytes // 64
        self._batches: deque[_Batch] = deque()
        self._kept = 0
        self._bytes = 0
        self._settled = 0
        """The number of the newest change of a batch."""
        self._fresh: list[Change] = []
        self._fresh_bytes = 0
        self._fresh_at = 0

    def append(self, change: Change) -> None:
        """Record a change. Every write comes by here: whatever can be done for many at once is done later."""
        fresh = self._fresh
        fresh.append(change)
        self._fresh_bytes += (
            len(change.scope) + len(change.key) + len(change.old or b"") + len(change.new or b"")
        )
        if len(fresh) == 1:
            self._fresh_at = self._now_ms()
            if self.on_append is not None:
                self.on_append()
        if len(fresh) >= self._most or self._fresh_bytes > self._most_bytes:
            self.settle()

    def settle(self) -> None:
        """What was recorded since the last time is a batch; the oldest batches make room."""
        fresh = self._fresh
        if not fresh:
            return
        size = self._fresh_bytes + _OVERHEAD * len(fresh)
        batches = self._batches
        batches.append(_Batch(self._settled + 1, fresh, self._fresh_at, size))
        self._settled += len(fresh)
        self._kept += len(fresh)
        self._bytes += size
        self._fresh, self._fresh_bytes = [], 0
        # The newest batch stays, however large it is: a listener that waits for it must get it.
        while len(batches) > 1 and (
            self._bytes > self._keep_bytes or self._kept - len(batches[0].changes) >= self._keep
        ):
            gone = batches.popleft()
            self._kept -= len(gone.changes)
            self._bytes -= gone.size

    def broken(self) -> None:
        """Changes may have been missed: begin a new epoch, so that nobody goes on as if nothing had been."""
        self.epoch = _fresh_epoch()
        self._batches.clear()
        self._kept = self._bytes = self._settled = 0
        self._fresh, self._fresh_bytes = [], 0
        if self.on_append is not None:
            # Who waits for the next change is to hear of the new epoch.
            self.on_append()

    @property
    def last(self) -> int:
        """The number of the newest change."""
        return self._settled + len(self._fresh)

    @property
    def newest(self) -> str:
        """The cursor after which there is nothing yet."""
        return self.cursor(self.last)

    @property
    def oldest(self) -> str:
        """The earliest cursor that can be gone on from."""
        # Else the next reading would make room for what is not settled, and this cursor be refused.
        self.settle()
        return self.cursor(self._first - 1)

    @property
    def _first(self) -> int:
        """The number of the earliest change that is kept, or of the next one."""
        return self._batches[0].first if self._batches else self._settled + 1

    def cursor(self, number: int) -> str:
        """The cursor of a change of this epoch."""
        return f"{self.epoch}-{number}"

    def after(self, cursor: str) -> Iterator[Recorded]:
        """The changes after a cursor, oldest first; CursorTooOld when some of them are forgotten."""
        number = self._number(cursor)
        self.settle()
        if number < self._first - 1:
            raise CursorTooOld(
                f"the changes after {cursor} are forgotten: this host keeps the last {self._keep}, from "
                f"{self.oldest} on; read the state again and go on from {self.newest}"
            )
        return self._told(number)

    def latest(self, cursor: str, count: int) -> tuple[int, str]:
        """How many changes to pass over after a cursor so that `count` are left, and the cursor after them.

        They are passed over whether they are kept or forgotten; CursorTooOld for a cursor of another time.
        """
        number = self._number(cursor)
        self.settle()
        start = max(number, self._first - 1, self.last - count)
        return start - number, self.cursor(start)

    def _told(self, number: int) -> Iterator[Recorded]:
        # From the newest back: nearly everyone who asks has read almost all.
        batches = []
        for batch in reversed(self._batches):
            if batch.first + len(batch.changes) - 1 <= number:
                break
            batches.append(batch)
        found = chain.from_iterable(batch.told() for batch in reversed(batches))
        return islice(found, number + 1 - batches[-1].first, None) if batches else found

    def _number(self, cursor: str) -> int:
        epoch, _, number = cursor.rpartition("-")
        if not (epoch and number.isascii() and number.isdigit() and len(number) < 20):
            raise CallerError(f"'{cursor[:80]}' is no cursor of this log", code="INVALID_CURSOR")
        if epoch != self.epoch or int(number) > self.last:
            raise CursorTooOld(
                f"the cursor {cursor[:80]} is of another time: the host was started again, or its change "
                f"stream broke; read the state again and go on from {self.newest}"
            )
        return int(number)


def _fresh_epoch() -> str:
    return secrets.token_hex(6)
