"""`state::list_entries`: pages over a snapshot of a scope, with single-use cursors and firm caps."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from iii_skill.errors import CallerError
from iii_skill.readable import MAX_NESTING, fits
from iii_skill.state.requests import EntriesRequest

LIFETIME = 120.0
MAX_SNAPSHOTS = 16
MAX_SNAPSHOT_BYTES = 32_000_000
MAX_TOTAL_BYTES = 64_000_000
MAX_ROWS = 100_000
MAX_ROW_BYTES = 8_000_000
ROW_OVERHEAD = 128
_ROW_LEVELS = MAX_NESTING - 2
"""A row stands two levels deeper in its reply than the value of a get or an event."""

_TAIL = ',"offset":%d,"total":%d}'
_encode = msgspec.json.Encoder().encode

Row = tuple[str, bytes]


class _Refusal(CallerError):
    """An error with its code in the message too: the separate `state` worker has it only there."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}", code=code)


@dataclass(frozen=True)
class Reader:
    """Whom and what a cursor is bound to."""

    scope: str
    caller: str
    limit: int
    max_bytes: int


@dataclass
class _Snapshot:
    reader: Reader
    rows: Sequence[Row]
    offset: int
    size: int
    expires: float


def reader_of(request: EntriesRequest, caller: str | None) -> Reader:
    """Check limits, caller and the form of the cursor, in this order."""
    limit = 100 if request.limit is None else request.limit
    max_bytes = 1_000_000 if request.max_bytes is None else request.max_bytes
    in_bounds = 1 <= limit <= 1000 and 256 <= max_bytes <= MAX_ROW_BYTES
    if not in_bounds or len(request.scope.encode()) > 1024:
        text = "limit=1..1000, max_bytes=256..8000000, scope/namespace<=1024 bytes"
        raise _Refusal("INVALID_PAGE_LIMITS", text)
    if caller is not None and not 1 <= len(caller.encode()) <= 256:
        raise _Refusal("UNKNOWN_CALLER", "list_entries requires engine-stamped identity")
    if request.cursor is not None and len(request.cursor) != 36:
        raise _bad_cursor()
    return Reader(request.scope, caller or "", limit, max_bytes)


class Pages:
    """The live snapshots of one worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshots: dict[str, _Snapshot] = {}

    def check_room(self) -> None:
        """Refuse a new read while as many snapshots live as may live."""
        self._expire()
        if len(self._snapshots) >= MAX_SNAPSHOTS:
            raise _no_room()

    def first(self, reader: Reader, rows: Sequence[Row]) -> bytes:
        """The first page of a scope; only a scope that needs more pages is kept."""
        self.check_room()
        if len(rows) > MAX_ROWS:
            raise _no_room()
        snapshot = _Snapshot(reader, rows, 0, 0, self._clock() + LIFETIME)
        return self._page(snapshot, None)

    def next(self, reader: Reader, cursor: str) -> bytes:
        """The page at a cursor; the cursor is used up unless the call fails."""
        self._expire()
        snapshot = self._snapshots.get(cursor)
        if snapshot is None or snapshot.reader != reader:
            raise _bad_cursor()
        return self._page(snapshot, cursor)

    def _page(self, snapshot: _Snapshot, cursor: str | None) -> bytes:
        reader, rows, start = snapshot.reader, snapshot.rows, snapshot.offset
        tail = (_TAIL % (start, len(rows))).encode()
        last = b'],"next_cursor":null,"done":true' + tail
        more = b'],"next_cursor":"%b","done":false' + tail
        head = b'{"entries":['
        room_last = reader.max_bytes - len(head) - len(last)
        room_more = reader.max_bytes - len(head) - (len(more) - len("%b") + 36)
        taken: list[bytes] = []
        size, kept = 0, 0
        for key, value in rows[start : start + reader.limit]:
            row = b"[%b,%b]" % (_encode(key), value)
            _check_row(row, value)
            size += len(row) + bool(taken)
            if size > room_last:
                break
            taken.append(row)
            if size <= room_more:
                kept = len(taken)
        if start + len(taken) == len(rows):
            self._snapshots.pop(cursor or "", None)
            return head + b",".join(taken) + last
        if not kept:
            raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")
        following = self._keep(snapshot, cursor, start + kept)
        return head + b",".join(taken[:kept]) + more % following.encode()

    def _keep(self, snapshot: _Snapshot, cursor: str | None, offset: int) -> str:
        if cursor is None:
            for key, value in snapshot.rows:
                if len(value) > MAX_ROW_BYTES:
                    raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")
                snapshot.size += len(key.encode()) + len(value) + 5 + ROW_OVERHEAD
            total = sum(other.size for other in self._snapshots.values())
            if snapshot.size > MAX_SNAPSHOT_BYTES or total + snapshot.size > MAX_TOTAL_BYTES:
                raise _no_room()
        else:
            del self._snapshots[cursor]
        following = str(uuid.uuid4())
        snapshot.offset = offset
        self._snapshots[following] = snapshot
        return following

    def _expire(self) -> None:
        now = self._clock()
        for cursor in [one for one, snapshot in self._snapshots.items() if snapshot.expires <= now]:
            del self._snapshots[cursor]


def _check_row(row: bytes, value: bytes) -> None:
    deep = value.count(b"[") + value.count(b"{") > _ROW_LEVELS and not fits(value, _ROW_LEVELS)
    if len(row) > MAX_ROW_BYTES or deep:
        raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")


def _bad_cursor() -> _Refusal:
    return _Refusal("INVALID_CURSOR", "invalid, expired or consumed cursor; restart without cursor")


def _no_room() -> _Refusal:
    return _Refusal("SNAPSHOT_CAPACITY", "retention budget exhausted; retry after expiry")
