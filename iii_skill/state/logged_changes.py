"""`iii-skill::state::changes` out of the log that the store itself keeps.

Its cursors hold at every host of the store and after a restart. Calls that wait read the log again when the
feed of changes tells of one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from iii_skill.adapter import OLDEST, LogPage, StateAdapter, settled
from iii_skill.calls import Call
from iii_skill.errors import AdapterError, AdapterUnavailable, CallerError
from iii_skill.state.change_log import ChangeLog
from iii_skill.state.changes_request import ChangesRequest, answer

MAX_WAITING = 1_000
"""Calls that may be under way at once."""
LONGEST_READING = 5.0
"""A call that finds nothing it wants in so many seconds of reading is told how far it came."""


class LoggedChangesFunction:
    """Answers from the log of the adapter; the one in memory only tells that there is something new."""

    def __init__(self, adapter: StateAdapter, log: ChangeLog, *, listen: Callable[[], None]) -> None:
        """`listen` makes the changes come."""
        self._adapter = adapter
        self._log = log
        self._listen = listen
        self._news: set[asyncio.Future[None]] = set()
        self._closed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        log.on_append = self._appended

    def __call__(self, call: Call) -> None:
        try:
            request = ChangesRequest.of(call.data)
            if len(self._tasks) >= MAX_WAITING:
                raise AdapterUnavailable(f"{MAX_WAITING} calls read the changes already; try again.")
        except (CallerError, AdapterError) as error:
            call.fail(error)
            return
        task = asyncio.ensure_future(self._answer(call, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Answer whoever still waits."""
        self._closed.set()
        self._appended()

    def _appended(self) -> None:
        self._log.settle()
        for news in self._news:
            if not news.done():
                news.set_result(None)

    async def _answer(self, call: Call, request: ChangesRequest) -> None:
        try:
            call.succeed(await self._find(request))
        except (CallerError, AdapterError) as error:
            call.fail(error)
        except Exception as error:
            call.fail(AdapterError(f"{type(error).__name__}: {error}"))
            raise

    async def _find(self, request: ChangesRequest) -> bytes:
        loop = asyncio.get_running_loop()
        waiting_until = loop.time() + request.wait_ms / 1000
        reading_until = max(loop.time() + LONGEST_READING, waiting_until)
        after = request.after
        if request.wait_ms and not self._log.recording:
            self._log.recording = True
            self._listen()
        left_out = 0
        while True:
            # Before the reading, so that what comes in the middle of it is not missed.
            news = loop.create_future()
            self._news.add(news)
            try:
                if request.newest is not None and after is not None:
                    passed, after = await self._latest(after, request.newest)
                    left_out += passed
                page = await settled(self._adapter.log_page(after, request.limit))
                rows, after = _told(request, page)
                over = loop.time() >= reading_until or self._closed.is_set()
                if rows or over or (not page.rows and loop.time() >= waiting_until):
                    return answer(rows, after=after, oldest=page.oldest, left_out=left_out)
                if not page.rows:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news, waiting_until - loop.time())
            finally:
                self._news.discard(news)

    async def _latest(self, after: str, count: int) -> tuple[int, str]:
        if after == OLDEST:
            after = (await settled(self._adapter.log_page(None, 1))).oldest
        return await settled(self._adapter.log_latest(after, count))


def _told(request: ChangesRequest, page: LogPage) -> tuple[list[bytes], str]:
    """What the request wants of the page, and the cursor after all that was looked at."""
    rows: list[bytes] = []
    room, after = request.max_bytes, None
    for found in page.rows:
        if request.wants(found.change):
            row = request.row(found.change, cursor=found.cursor, at_ms=found.at_ms)
            if rows and len(row) > room:
                break
            rows.append(row)
            room -= len(row)
        after = found.cursor
        if len(rows) == request.limit:
            break
    else:
        after = page.next
    return rows, page.next if after is None else after
