"""`iii-skill::state::changes` out of the log in memory, waiting for changes if asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from iii_skill.adapter import OLDEST
from iii_skill.calls import Call
from iii_skill.errors import CallerError
from iii_skill.state.change_log import ChangeLog
from iii_skill.state.changes_request import ChangesRequest, answer

MAX_WAITING = 1_000
"""Calls that may wait at once."""

UNWATCHED_S = 0.01
"""While nobody waits, what was recorded in so many seconds is one batch: busy writers pay for few of them."""


class _Waiting(msgspec.Struct, frozen=True):
    call: Call
    request: ChangesRequest
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
        self._later: asyncio.TimerHandle | None = None
        log.on_append = self._appended

    def __call__(self, call: Call) -> None:
        try:
            request = ChangesRequest.of(call.data)
            if not self._log.recording:
                self._log.recording = True
                self._listen()
            if request.after is None or request.after == OLDEST:
                after = self._log.newest if request.after is None else self._log.oldest
                request = msgspec.structs.replace(request, after=after)
            rows, reached, left_out = self._rows(request)
            if not rows and request.wait_ms and len(self._waiting) < MAX_WAITING:
                self._wait(call, msgspec.structs.replace(request, after=reached))
            else:
                self._answer(call, rows, reached, left_out)
        except CallerError as error:
            call.fail(error)

    def close(self) -> None:
        """Answer whoever still waits."""
        for number in list(self._waiting):
            self._end(number)
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _wait(self, call: Call, request: ChangesRequest) -> None:
        self._number += 1
        timer = asyncio.get_running_loop().call_later(request.wait_ms / 1000, self._end, self._number)
        self._waiting[self._number] = _Waiting(call, request, timer)

    def _end(self, number: int) -> None:
        """Its time is over: nothing came that it wants."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.timer.cancel()
            self._answer(waiting.call, [], waiting.request.after)

    def _appended(self) -> None:
        """Look once in a turn, not at every change of a burst, and less often while nobody waits."""
        if self._waiting:
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._look)
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(UNWATCHED_S, self._settle)

    def _settle(self) -> None:
        self._later = None
        self._log.settle()

    def _look(self) -> None:
        self._scheduled = False
        self._log.settle()
        for number, waiting in list(self._waiting.items()):
            try:
                rows, after, left_out = self._rows(waiting.request)
            except CallerError as error:
                waiting.timer.cancel()
                del self._waiting[number]
                waiting.call.fail(error)
                continue
            if rows:
                waiting.timer.cancel()
                del self._waiting[number]
                self._answer(waiting.call, rows, after, left_out)
            else:
                request = msgspec.structs.replace(waiting.request, after=after)
                self._waiting[number] = _Waiting(waiting.call, request, waiting.timer)

    def _rows(self, request: ChangesRequest) -> tuple[list[bytes], str, int]:
        """What the request wants, the cursor after all that was looked at, and how many were passed over."""
        rows: list[bytes] = []
        room, last = request.max_bytes, None
        assert request.after is not None
        left_out, after = 0, request.after
        if request.newest is not None:
            left_out, after = self._log.latest(after, request.newest)
        for found in self._log.after(after):
            if request.wants(found.change):
                row = request.row(found.change, cursor=self._log.cursor(found.number), at_ms=found.at_ms)
                if rows and len(row) > room:
                    break
                rows.append(row)
                room -= len(row)
            last = found.number
            if len(rows) == request.limit:
                break
        return rows, after if last is None else self._log.cursor(last), left_out

    def _answer(self, call: Call, rows: list[bytes], after: str | None, left_out: int = 0) -> None:
        after = after or self._log.newest
        call.succeed(answer(rows, after=after, oldest=self._log.oldest, left_out=left_out))
