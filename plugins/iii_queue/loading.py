"""Loading: the time until the store has told what it holds; what comes meanwhile waits or is refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from iii_skill.companion import Call, Failure
from iii_skill.errors import AdapterError, AdapterUnavailable, IiiSkillError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
"""Seconds between tries to read the store."""

_LOAD_S = 1.0
"""So long the start waits for what the store holds; after that the host goes on, and calls wait instead."""

MOST_WAITING = 10_000
"""Calls that may wait until the store has given what it holds."""


def not_stored(error: BaseException) -> Failure:
    """The answer to a call whose job or message could not be stored."""
    text = error.message if isinstance(error, IiiSkillError) else f"{type(error).__name__}: {error}"
    return Failure("enqueue_error", text)


class Loading:
    """Reads the store, again while it refuses, and then does what waited for it."""

    def __init__(self, load: Callable[[], Awaitable[None]], log: logging.Logger) -> None:
        self._load = load
        self._log = log
        self._loaded = asyncio.Event()
        self._waiting: list[tuple[Callable[[], None], Call | None]] = []
        """What came before that: in order, each with the call that is to be answered, if it is one."""
        self._unreadable: BaseException | None = None
        self._pausing = False
        self._stopping = False
        self._task: asyncio.Future[None]

    @property
    def over(self) -> bool:
        """True when the store has told what it holds."""
        return self._loaded.is_set()

    async def start(self) -> None:
        """Begin, and wait a short time for the end."""
        self._task = asyncio.ensure_future(self._load_at_last())
        if not (await asyncio.wait([self._task], timeout=_LOAD_S))[0]:
            self._log.warning(
                "the store has not told yet which jobs it holds: until it has, none starts, and calls of "
                "queues wait or are refused"
            )

    async def stop(self) -> None:
        """Refuse the calls that wait, and wait for a store that is being read."""
        self._stopping = True
        self._refuse_waiting(AdapterUnavailable("The host stops."))
        if self._pausing:
            self._task.cancel()
        try:
            # A store that does not answer may keep a thread: who stops the host is told by its deadline.
            await asyncio.wait([self._task])
        finally:
            self._task.cancel()

    async def wait(self) -> None:
        """Return when the store has told what it holds."""
        await self._loaded.wait()

    def put_off(self, begin: Callable[[], None]) -> None:
        """Do it when the store has told what it holds; it is never refused."""
        self._waiting.append((begin, None))

    def guarded(self, handler: Callable[[Call], None]) -> Callable[[Call], None]:
        """The handler, for calls that may come before the store has told what it holds."""

        def handle(call: Call) -> None:
            if self._loaded.is_set():
                handler(call)
            elif self._unreadable is not None:
                call.reply(not_stored(self._unreadable))
            elif len(self._waiting) >= MOST_WAITING:
                call.reply(
                    not_stored(AdapterUnavailable(f"{MOST_WAITING} calls wait for the store already."))
                )
            else:
                self._waiting.append((lambda: handler(call), call))

        return handle

    async def _load_at_last(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                await self._load()
                break
            except AdapterError as error:
                if self._unreadable is None:
                    self._log.warning("what the store holds of queues cannot be read: %s", error)
                self._unreadable = error
            except Exception as error:
                self._log.exception("what the store holds of queues cannot be taken up")
                self._unreadable = error
            self._refuse_waiting(self._unreadable)
            if self._stopping:
                return
            self._pausing = True
            await asyncio.sleep(pause)
            self._pausing = False
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        self._loaded.set()
        waiting, self._waiting = self._waiting, []
        for begin, _ in waiting:
            begin()

    def _refuse_waiting(self, reason: BaseException) -> None:
        """Refuse the calls that wait; what else waits goes on waiting."""
        calls = [call for _, call in self._waiting if call is not None]
        self._waiting = [waiting for waiting in self._waiting if waiting[1] is None]
        for call in calls:
            call.reply(not_stored(reason))
