"""`iii-skill::state::changes`: what changed after a cursor, waiting for it if asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from iii_skill.calls import Call, FunctionInfo
from iii_skill.errors import CallerError
from iii_skill.serde.reader import Shape, optional_count, optional_flag, optional_string, read_input
from iii_skill.state.change_log import ChangeLog, Recorded
from iii_skill.state.events import event_type

FUNCTION_ID = "iii-skill::state::changes"
MAX_CHANGES = 10_000
MAX_WAIT_MS = 60_000
MAX_BYTES = 8 * 1024 * 1024
MAX_WAITING = 1_000
"""Calls that may wait at once."""

INFO = FunctionInfo(
    FUNCTION_ID,
    "What changed after a cursor, in one order for all keys; the first call gives a cursor to begin with.",
    {
        "type": "object",
        "properties": {
            "after": {"type": ["string", "null"], "description": "A cursor, or `oldest`; null: from now on."},
            "scope": {"type": ["string", "null"], "description": "Only this scope."},
            "key": {"type": ["string", "null"], "description": "Only this key."},
            "key_prefix": {"type": ["string", "null"], "description": "Only keys that begin with it."},
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CHANGES},
            "max_bytes": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_BYTES},
            "wait_ms": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_WAIT_MS},
            "values": {"type": ["boolean", "null"], "description": "False: without old and new values."},
        },
    },
    {
        "type": "object",
        "required": ["changes", "next", "oldest"],
        "properties": {
            "changes": {"type": "array", "items": {"type": "object"}},
            "next": {"type": "string", "description": "The cursor for the next call."},
            "oldest": {"type": "string", "description": "The earliest cursor that can be gone on from."},
        },
    },
)

_SHAPE = Shape(
    "StateChangesInput",
    {
        "after": optional_string,
        "scope": optional_string,
        "key": optional_string,
        "key_prefix": optional_string,
        "limit": optional_count,
        "max_bytes": optional_count,
        "wait_ms": optional_count,
        "values": optional_flag,
    },
    dict.fromkeys(("after", "scope", "key", "key_prefix", "limit", "max_bytes", "wait_ms", "values")),
    positional=False,
)

_encode = msgspec.json.Encoder().encode


class _Request(msgspec.Struct, frozen=True):
    after: str
    scope: str | None
    key: str | None
    key_prefix: str
    limit: int
    max_bytes: int
    values: bool

    def wants(self, found: Recorded) -> bool:
        change = found.change
        return (
            self.scope in (None, change.scope)
            and self.key in (None, change.key)
            and change.key.startswith(self.key_prefix)
        )


class _Waiting(msgspec.Struct, frozen=True):
    call: Call
    request: _Request
    timer: asyncio.TimerHandle


class ChangesFunction:
    """Answers from the log; calls that wait are answered when something comes or their time is over."""

    def __init__(self, log: ChangeLog, *, listen: Callable[[], None]) -> None:
        """`listen` makes the changes of a shared store come."""
        self._log = log
        self._listen = listen
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._scheduled = False
        log.on_append = self._appended

    def __call__(self, call: Call) -> None:
        """Handle one call."""
        try:
            given = read_input(FUNCTION_ID, _SHAPE, call.data)
            wait_ms = _bounded(given, "wait_ms", 0, 0, MAX_WAIT_MS)
            if not self._log.recording:
                self._log.recording = True
                self._listen()
            after = given["after"]
            request = _Request(
                self._log.newest if after is None else self._log.oldest if after == "oldest" else after,
                given["scope"],
                given["key"],
                given["key_prefix"] or "",
                _bounded(given, "limit", 1_000, 1, MAX_CHANGES),
                _bounded(given, "max_bytes", 1024 * 1024, 1, MAX_BYTES),
                given["values"] is not False,
            )
            rows, after = self._rows(request)
            if not rows and wait_ms and len(self._waiting) < MAX_WAITING:
                self._wait(call, msgspec.structs.replace(request, after=after), wait_ms)
            else:
                self._answer(call, rows, after)
        except CallerError as error:
            call.fail(error)

    def close(self) -> None:
        """Answer whoever still waits."""
        for number in list(self._waiting):
            self._end(number)

    def _wait(self, call: Call, request: _Request, wait_ms: int) -> None:
        self._number += 1
        timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._end, self._number)
        self._waiting[self._number] = _Waiting(call, request, timer)

    def _end(self, number: int) -> None:
        """Its time is over: nothing came that it wants."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.timer.cancel()
            self._answer(waiting.call, [], waiting.request.after)

    def _appended(self) -> None:
        """Look once in a turn, not at every change of a burst."""
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._scheduled = False
        for number, waiting in list(self._waiting.items()):
            try:
                rows, after = self._rows(waiting.request)
            except CallerError as error:
                waiting.timer.cancel()
                del self._waiting[number]
                waiting.call.fail(error)
                continue
            if rows:
                waiting.timer.cancel()
                del self._waiting[number]
                self._answer(waiting.call, rows, after)
            else:
                request = msgspec.structs.replace(waiting.request, after=after)
                self._waiting[number] = _Waiting(waiting.call, request, waiting.timer)

    def _rows(self, request: _Request) -> tuple[list[bytes], str]:
        """What the request wants, and the cursor after all that was looked at."""
        rows: list[bytes] = []
        room, last = request.max_bytes, None
        for found in self._log.after(request.after):
            if request.wants(found):
                row = self._row(found, values=request.values)
                if rows and len(row) > room:
                    break
                rows.append(row)
                room -= len(row)
            last = found.number
            if len(rows) == request.limit:
                break
        return rows, request.after if last is None else self._log.cursor(last)

    def _row(self, found: Recorded, *, values: bool) -> bytes:
        change = found.change
        shown = b""
        if values:
            shown = b',"old_value":%b,"new_value":%b' % (change.old or b"null", change.new or b"null")
        return b'{"cursor":%b,"event_type":%b,"scope":%b,"key":%b,"revision":%d,"at_ms":%d%b}' % (
            _encode(self._log.cursor(found.number)),
            _encode(event_type(change)),
            _encode(change.scope),
            _encode(change.key),
            change.revision,
            found.at_ms,
            shown,
        )

    def _answer(self, call: Call, rows: list[bytes], after: str) -> None:
        call.succeed(
            b'{"changes":[%b],"next":%b,"oldest":%b}'
            % (b",".join(rows), _encode(after), _encode(self._log.oldest))
        )


def _bounded(given: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = given[name]
    if value is None:
        return default
    if not low <= value <= high:
        raise CallerError(f"{name} must be from {low} to {high}, not {value}", code="INVALID_PAGE_LIMITS")
    return int(value)
