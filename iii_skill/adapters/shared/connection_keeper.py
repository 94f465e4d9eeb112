"""ConnectionKeeper: keeps a connection to a server, through restarts, pauses and failovers.

A connection that breaks is replaced at once, and calls made meanwhile wait for the new one. When that fails,
calls are refused at once with the reason, and it tries again with growing pauses until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from iii_skill.errors import AdapterTimeout, AdapterUnavailable, StoreRefused

log = logging.getLogger(__name__)

C = TypeVar("C")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
CANCEL_AGAIN = 0.5
STEADY = 1.0
"""A connection that lived so many seconds is replaced without a pause."""


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

    async def wait(self) -> None:
        """The next pause."""
        pause, self._next = self._next, min(self._next * 2, LONGEST_PAUSE)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._next = FIRST_PAUSE


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
    ) -> None:
        self.label = label
        self._connect = connect
        self._disconnect = disconnect
        self._seconds = seconds
        self._lost = lost
        self._connection: C | None = None
        self._reason = "it is not connected yet"
        self._attempt: asyncio.Future[None] | None = None
        """Of an attempt for which calls wait."""
        self._broken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._since = 0.0

    async def open(self) -> None:
        """Try once, then keep trying in the background; StoreRefused when trying again cannot help."""
        try:
            self._take(await self._once())
        except AdapterUnavailable as error:
            log.error("%s Calls are refused until it can; trying again.", error)
            self._reason = error.message
            self._broken.set()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Disconnect, and try no more."""
        if self._keeper is not None:
            await end_tasks(self._keeper)
            self._keeper = None
        self._reason = f"{self.label} is not used any more: the adapter is closed."
        self._end_attempt()
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._disconnect(connection)

    @property
    def up(self) -> bool:
        """True while there is a connection."""
        return self._connection is not None

    async def get(self) -> C:
        """The connection; AdapterUnavailable with the reason when there is none."""
        if self._connection is None and self._attempt is not None:
            # It has just been lost: the server is most likely there.
            await asyncio.shield(self._attempt)
        if self._connection is None:
            raise AdapterUnavailable(self._reason)
        return self._connection

    async def use(self, work: Callable[[C], Awaitable[Any]], *, seconds: float) -> Any:
        """Do the work on the connection; when that breaks or takes longer than `seconds`, it is replaced.

        AdapterUnavailable when the work was not begun or broke off, AdapterTimeout when it took too long.
        """
        connection = await self.get()
        try:
            async with asyncio.timeout(seconds) as limit:
                return await work(connection)
        except TimeoutError as error:
            # Both are TimeoutErrors: ours, and that of a socket.
            reason = f"{self.label} did not answer within {seconds:g} s" if limit.expired() else str(error)
            self.lost(connection, reason)
            raise AdapterTimeout(f"{reason}.") from None
        except self._lost as error:
            reason = f"{self.label} was lost before it answered ({_sentence(error)})"
            self.lost(connection, reason)
            raise AdapterUnavailable(f"{reason}; try again.") from None
        except asyncio.CancelledError:
            # What it was in the middle of is not known.
            self.lost(connection, "a call was cancelled")
            raise

    def lost(self, connection: C, reason: str) -> None:
        """The connection is of no use any more."""
        if self._connection is not connection:
            return
        log.warning("%s; connecting again.", reason)
        self._connection = None
        self._reason = f"{reason}."
        if asyncio.get_running_loop().time() - self._since > STEADY:
            self._attempt = asyncio.get_running_loop().create_future()
        self._dropped = asyncio.create_task(self._drop(connection))
        self._broken.set()

    async def _drop(self, connection: C) -> None:
        with contextlib.suppress(Exception):
            await self._disconnect(connection)

    async def _keep(self) -> None:
        pauses = Pauses()
        while True:
            await self._broken.wait()
            if self._attempt is None:
                # Away, or it takes connections and drops them: no call waits for this attempt.
                await pauses.wait()
            else:
                pauses.reset()
            try:
                connection = await self._once()
            except (AdapterUnavailable, StoreRefused) as error:
                # A reason is told once, not with each attempt.
                if error.message != self._reason:
                    log.warning("%s Trying again.", error)
                self._reason = error.message
            else:
                self._take(connection)
                log.warning("%s is back.", self.label)
            self._end_attempt()

    def _take(self, connection: C) -> None:
        self._connection = connection
        self._since = asyncio.get_running_loop().time()
        self._broken.clear()

    def _end_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(None)

    async def _once(self) -> C:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._connect()
        except TimeoutError:
            reason = f"it did not answer within {self._seconds:g} s"
        except self._lost as error:
            reason = _sentence(error)
        raise AdapterUnavailable(f"{self.label} cannot be used now: {reason}.") from None


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
