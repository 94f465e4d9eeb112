"""ConnectionKeeper: keeps a connection to a server, through restarts, pauses and failovers.

A connection that breaks is replaced at once, and calls made meanwhile wait for the new one. When that fails,
calls are refused at once with the reason, and it tries again with growing pauses until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from iii_skill.errors import AdapterTimeout, AdapterUnavailable, StoreRefused

log = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
CANCEL_AGAIN = 0.5
STEADY = 1.0
"""A connection that lived so many seconds was well: the pauses begin anew."""


class ConnectionBroken(AdapterUnavailable):
    """The connection broke while it carried a call."""


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def reason_of(error: BaseException) -> str:
    """What the system said, where a library wraps it in a sentence of its own; without a full stop."""
    for cause in causes_of(error):
        # The numbers of these two are not the system's.
        if isinstance(cause, ssl.SSLError | socket.gaierror):
            return str(cause.strerror or cause).rstrip(".")
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno)
    return str(error).rstrip(".") or type(error).__name__


class ConnectionUnfit(AdapterUnavailable):
    """The server did nothing, and will do nothing on this connection: raise it to have another one."""


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait for their end; a cancellation that a library swallows is repeated."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


class Pauses:
    """Growing pauses between attempts, never quite the same, so that hosts do not come all at once."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE
        self._over = asyncio.Event()

    async def wait(self) -> None:
        """The next pause."""
        pause, self._next = self._next, min(self._next * 2, LONGEST_PAUSE)
        self._over.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                await self._over.wait()

    def end(self) -> None:
        """End the pause that is being waited for: there is news of the server."""
        self._over.set()

    def reset(self) -> None:
        """All is well again."""
        self._next = FIRST_PAUSE

    def skip(self) -> bool:
        """True when the first pause is still to come: the attempt may go without it."""
        first = self._next == FIRST_PAUSE
        self._next = max(self._next, 2 * FIRST_PAUSE)
        return first


class ConnectionKeeper(Generic[C]):
    """The connection to one server, made again whenever it is lost.

    `connect` gives a connection that is ready, or raises: StoreRefused when trying again cannot help,
    AdapterUnavailable or one of `lost` when it may. `label` is how sentences name the server.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        disconnect: Callable[[C], Awaitable[None]],
        *,
        label: str,
        seconds: float,
        lost: tuple[type[BaseException], ...] = (OSError,),
        level: int = logging.WARNING,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        """`level`: how loud it says that the connection was lost and is back; `on_back`: called then."""
        self._on_back = on_back
        self.label = label
        self._level = level
        self._lock = asyncio.Lock()
        self._connect = connect
        self._disconnect = disconnect
        self._seconds = seconds
        self._lost = lost
        self._connection: C | None = None
        self._reason = "it is not connected yet"
        self._attempt: asyncio.Future[None] | None = None
        """Of an attempt for which calls wait."""
        self._broken = asyncio.Event()
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._since = 0.0
        self._closed = False
        self._pauses = Pauses()
        self._dropping: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Try once, then keep trying in the background; StoreRefused when trying again cannot help."""
        try:
            self._take(await self._once())
        except AdapterUnavailable as error:
            log.log(self._level, "%s Calls are refused until it can; trying again.", error)
            self._reason = error.message
            self._broken.set()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Disconnect, and try no more."""
        if self._keeper is not None:
            await end_tasks(self._keeper)
            self._keeper = None
        self._closed = True
        self._reason = f"{self.label} is not used any more: the adapter is closed."
        self._end_attempt()
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._drop(connection)
        await asyncio.gather(*self._dropping)

    @property
    def up(self) -> bool:
        """True while there is a connection."""
        return self._connection is not None

    async def connected(self, *, seconds: float) -> bool:
        """Wait so long for a connection; False when there is none yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        return self.up

    async def get(self) -> C:
        """The connection; AdapterUnavailable with the reason when there is none."""
        if self._connection is None and self._attempt is not None:
            # It has just been lost: the server is most likely there.
            await asyncio.shield(self._attempt)
        if self._connection is None:
            raise AdapterUnavailable(self._reason)
        return self._connection

    async def use(self, work: Callable[[C], Awaitable[T]], *, seconds: float) -> T:
        """Do the work on the connection, alone; when that breaks or takes longer than `seconds`, it is
        replaced. The first use opens it.

        AdapterUnavailable when the work was not begun, ConnectionBroken and AdapterTimeout when it may have
        had its effect.
        """
        connection: C | None = None
        try:
            async with asyncio.timeout(seconds) as limit, self._lock:
                if self._keeper is None and not self._closed:
                    await self.open()
                connection = await self.get()
                return await work(connection)
        except TimeoutError as error:
            # Both are TimeoutErrors: ours, and that of a socket.
            reason = f"did not answer within {seconds:g} s" if limit.expired() else reason_of(error)
            if connection is None:
                raise AdapterUnavailable(f"{self.label} {reason}; try again.") from None
            self.lost(connection, f"{self.label} {reason}")
            raise AdapterTimeout(f"{self.label} {reason}.") from None
        except self._lost as error:
            reason = f"{self.label} was lost before it answered ({reason_of(error)})"
            if connection is not None:
                self.lost(connection, reason)
            raise ConnectionBroken(f"{reason}; try again.") from None
        except ConnectionUnfit as error:
            if connection is not None:
                self.lost(connection, error.message.rstrip("."))
            raise
        except asyncio.CancelledError:
            # What it was in the middle of is not known.
            if connection is not None:
                self.lost(connection, f"{self.label}: a call was cancelled")
            raise

    async def read(self, work: Callable[[C], Awaitable[T]], *, seconds: float) -> T:
        """The same for work without effect: when the connection breaks, it is done again on the next one."""
        try:
            return await self.use(work, seconds=seconds)
        except ConnectionBroken:
            return await self.use(work, seconds=seconds)

    def hurry(self) -> None:
        """Another connection to the server was made: try again now."""
        self._pauses.end()

    def lost(self, connection: C, reason: str) -> None:
        """The connection is of no use any more."""
        if self._connection is not connection:
            return
        log.log(self._level, "%s; connecting again.", reason)
        self._connection = None
        self._reason = f"{reason}."
        self._connected.clear()
        loop = asyncio.get_running_loop()
        if loop.time() - self._since > STEADY:
            self._pauses.reset()
        if self._pauses.skip():
            # It worked until now, so the server is most likely there: calls wait for the new connection.
            self._attempt = loop.create_future()
        dropping = asyncio.create_task(self._drop(connection))
        self._dropping.add(dropping)
        dropping.add_done_callback(self._dropping.discard)
        self._broken.set()

    async def _drop(self, connection: C) -> None:
        with contextlib.suppress(Exception):
            await self._disconnect(connection)

    async def _keep(self) -> None:
        while True:
            await self._broken.wait()
            if self._attempt is None:
                # Away, or it takes connections and drops them: no call waits for this attempt.
                await self._pauses.wait()
            try:
                connection = await self._once()
            except (AdapterUnavailable, StoreRefused) as error:
                # A reason is told once, not with each attempt.
                if error.message != self._reason:
                    log.log(self._level, "%s Trying again.", error)
                self._reason = error.message
            else:
                self._take(connection)
                log.log(self._level, "%s is back.", self.label)
                self._on_back()
            self._end_attempt()

    def _take(self, connection: C) -> None:
        self._connection = connection
        self._since = asyncio.get_running_loop().time()
        self._broken.clear()
        self._connected.set()

    def _end_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(None)

    async def another(self) -> C:
        """A connection that the caller ends; AdapterUnavailable when none can be made now."""
        return await self._once()

    async def _once(self) -> C:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._connect()
        except TimeoutError:
            reason = f"it did not answer within {self._seconds:g} s"
        except self._lost as error:
            reason = reason_of(error)
        raise AdapterUnavailable(f"{self.label} cannot be used now: {reason}.") from None
