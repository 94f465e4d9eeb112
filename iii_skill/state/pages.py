"""`state::list_entries`: pages of a scope, with single-use cursors and firm caps.

A scope of up to SNAPSHOT_ROWS keys is paged as of one moment: what the later pages give is kept. A larger one
is read page by page, so its later pages show what was written meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from iii_skill.adapter import Page
from iii_skill.errors import CallerError
from iii_skill.readable import MAX_NESTING, fits
from iii_skill.state.requests import EntriesRequest

SNAPSHOT_ROWS = 1000
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
class PageReader:
    """Whom and what a cursor is bound to."""

    scope: str
    caller: str
    limit: int
    max_bytes: int


@dataclass
class _Paging:
    """What one reader was given so far, and what comes next."""

    reader: PageReader
    rows: Sequence[Row]
    """Read and not given yet, from `start` on."""
    total: int
    expires: float
    after: str | None = None
    """Where the adapter's next page begins; None when `rows` are all that is left."""
    start: int = 0
    offset: int = 0
    size: int = 0
    reading: bool = False


def reader_of(request: EntriesRequest, caller: str | None) -> PageReader:
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
    return PageReader(request.scope, caller or "", limit, max_bytes)


class Pages:
    """The unfinished pagings of one worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pagings: dict[str, _Paging] = {}

    def check_room(self, reader: PageReader) -> None:
        """Make room for a new read, or refuse it."""
        self._expire()
        self._make_room(reader, 0, None)

    def first(self, reader: PageReader, rows: Sequence[Row]) -> bytes:
        """The first page of a scope whose rows these are; they are kept if they need more pages."""
        self.check_room(reader)
        if len(rows) > MAX_ROWS:
            raise _no_room()
        return self._page(_Paging(reader, rows, len(rows), self._clock() + LIFETIME), None)

    def first_of_many(self, reader: PageReader, page: Page) -> bytes:
        """The first page of a scope that is read page by page."""
        self.check_room(reader)
        paging = _Paging(reader, page.pairs, page.total, self._clock() + LIFETIME, after=page.after)
        return self._page(paging, None)

    def wanted(self, reader: PageReader, cursor: str) -> tuple[str, int] | None:
        """From where and how many rows have to be read for the page at a cursor; None: none.

        Until `next` or `failed` the cursor serves nobody else.
        """
        self._expire()
        paging = self._pagings.get(cursor)
        if paging is None or paging.reading or paging.reader != reader:
            raise _bad_cursor()
        missing = reader.limit - (len(paging.rows) - paging.start)
        if paging.after is None or missing <= 0:
            return None
        paging.reading = True
        return paging.after, missing

    def failed(self, cursor: str) -> None:
        """The rows could not be read: the cursor stays."""
        if (paging := self._pagings.get(cursor)) is not None:
            paging.reading = False

    def next(self, reader: PageReader, cursor: str, page: Page | None = None) -> bytes:
        """The page at a cursor, with what was read for it; the cursor is used up unless the call fails."""
        self._expire()
        paging = self._pagings.get(cursor)
        if paging is None or paging.reader != reader:
            raise _bad_cursor()
        paging.reading = False
        if page is not None:
            paging.rows = [*paging.rows[paging.start :], *page.pairs]
            paging.start, paging.after = 0, page.after
        return self._page(paging, cursor)

    def _page(self, paging: _Paging, cursor: str | None) -> bytes:
        reader, rows, start = paging.reader, paging.rows, paging.start
        tail = (_TAIL % (paging.offset, paging.total)).encode()
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
        if paging.after is None and start + len(taken) == len(rows):
            self._pagings.pop(cursor or "", None)
            return head + b",".join(taken) + last
        if not kept and start < len(rows):
            raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")
        following = self._keep(paging, cursor, kept)
        return head + b",".join(taken[:kept]) + more % following.encode()

    def _keep(self, paging: _Paging, cursor: str | None, given: int) -> str:
        if cursor is None or paging.after is not None:
            paging.size = 0
            for key, value in paging.rows:
                if len(value) > MAX_ROW_BYTES:
                    raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")
                paging.size += len(key.encode()) + len(value) + 5 + ROW_OVERHEAD
            if paging.size > MAX_SNAPSHOT_BYTES:
                raise _no_room()
            self._make_room(reader=paging.reader, size=paging.size, besides=paging)
        if cursor is not None:
            del self._pagings[cursor]
        following = str(uuid.uuid4())
        paging.start += given
        paging.offset += given
        self._pagings[following] = paging
        return following

    def _make_room(self, reader: PageReader, size: int, besides: _Paging | None) -> None:
        """Let go of the oldest paging of whoever holds the most, so that nobody shuts the others out.

        Refused is only who would hold more than anybody else.
        """
        while True:
            held: dict[str, list[str]] = {}
            shares: dict[str, int] = {reader.caller: size}
            for cursor, paging in self._pagings.items():
                if paging is not besides:
                    caller = paging.reader.caller
                    held.setdefault(caller, []).append(cursor)
                    shares[caller] = shares.get(caller, 0) + paging.size + ROW_OVERHEAD
            count = sum(map(len, held.values()))
            if count < MAX_SNAPSHOTS and sum(shares.values()) - count * ROW_OVERHEAD <= MAX_TOTAL_BYTES:
                return
            most = max(shares, key=lambda caller: shares[caller])
            if most not in held:
                raise _no_room()
            del self._pagings[held[most][0]]

    def _expire(self) -> None:
        now = self._clock()
        for cursor in [one for one, paging in self._pagings.items() if paging.expires <= now]:
            del self._pagings[cursor]


def _check_row(row: bytes, value: bytes) -> None:
    deep = value.count(b"[") + value.count(b"{") > _ROW_LEVELS and not fits(value, _ROW_LEVELS)
    if len(row) > MAX_ROW_BYTES or deep:
        raise _Refusal("ROW_TOO_LARGE", "a complete keyed row does not fit the page byte budget")


def _bad_cursor() -> _Refusal:
    return _Refusal("INVALID_CURSOR", "invalid, expired or consumed cursor; restart without cursor")


def _no_room() -> _Refusal:
    return _Refusal("SNAPSHOT_CAPACITY", "retention budget exhausted; retry after expiry")
