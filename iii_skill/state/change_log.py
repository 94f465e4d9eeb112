"""ChangeLog: the latest changes of all keys in one order, so that a listener can go on after a break.

A cursor is `<epoch>-<n>`: the n-th change of an epoch. An epoch ends with the host, and wherever a change may
have been missed (the change stream of a shared store broke). A cursor of another epoch, or of a change that
made room for newer ones, is refused: a listener is told of a gap, it never meets one unknowingly.
Nothing is recorded, and nothing costs anything, until somebody asks for the first time.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from iii_skill.errors import CallerError
from iii_skill.values import Change

KEEP_CHANGES = 10_000
KEEP_BYTES = 16 * 1024 * 1024
_OVERHEAD = 200
"""Bytes that a change takes beside its names and values."""


class CursorTooOld(CallerError):
    """Changes after the cursor were forgotten: read the state again and go on from now."""

    code = "CURSOR_TOO_OLD"


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """One change, its number in the epoch, and when it was recorded (ms since 1970)."""

    number: int
    change: Change
    at_ms: int
    size: int


class ChangeLog:
    """A bounded ring of changes; `now_ms` is the clock."""

    def __init__(
        self, now_ms: Callable[[], int], *, keep: int = KEEP_CHANGES, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.recording = False
        self.epoch = _fresh_epoch()
        self.last = 0
        """The number of the newest change."""
        self.on_append: Callable[[], None] | None = None
        """Called after every change."""
        self._now_ms = now_ms
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._ring: deque[Recorded] = deque()
        self._bytes = 0

    def append(self, change: Change) -> None:
        """Record a change; what is too old makes room."""
        self.last += 1
        size = _OVERHEAD + len(change.scope) + len(change.key)
        size += len(change.old or b"") + len(change.new or b"")
        self._ring.append(Recorded(self.last, change, self._now_ms(), size))
        self._bytes += size
        # The newest stays, however large it is: a listener that waits for it must get it.
        while len(self._ring) > self._keep or (self._bytes > self._keep_bytes and len(self._ring) > 1):
            self._bytes -= self._ring.popleft().size
        if self.on_append is not None:
            self.on_append()

    def broken(self) -> None:
        """Changes may have been missed: begin a new epoch, so that nobody goes on as if nothing had been."""
        self.epoch = _fresh_epoch()
        self.last = 0
        self._ring.clear()
        self._bytes = 0
        if self.on_append is not None:
            self.on_append()

    @property
    def newest(self) -> str:
        """The cursor after which there is nothing yet."""
        return self.cursor(self.last)

    @property
    def oldest(self) -> str:
        """The earliest cursor that can be gone on from."""
        return self.cursor(self._ring[0].number - 1 if self._ring else self.last)

    def cursor(self, number: int) -> str:
        """The cursor of a change of this epoch."""
        return f"{self.epoch}-{number}"

    def after(self, cursor: str) -> Iterator[Recorded]:
        """The changes after a cursor, oldest first; CursorTooOld when some of them are forgotten."""
        number = self._number(cursor)
        first = self._ring[0].number if self._ring else self.last + 1
        if number < first - 1:
            raise CursorTooOld(
                f"the changes after {cursor} are forgotten: this host keeps the last {self._keep}, from "
                f"{self.oldest} on; read the state again and go on from {self.newest}"
            )
        return islice(self._ring, number + 1 - first, None)

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
