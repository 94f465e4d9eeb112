"""Link: keeps a pipe to one server, through restarts, pauses and failovers.

A broken connection is replaced at once, and calls made meanwhile travel with the new one. When that fails,
calls are refused at once with the reason, and the link tries again with growing pauses until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from iii_skill.errors import AdapterUnavailable, StoreRefused

from .faults import MOVED_ROLE, ServerFault
from .handshake import Address, Mode, NotReady, connect
from .pipe import Exchange, Pipe

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
CANCEL_AGAIN = 0.5
STEADY = 1.0
"""A connection that lived so many seconds is replaced without a pause."""


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """End the tasks; a cancellation that `asyncio.wait_for` of Python 3.11 swallows is repeated."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


class Link:
    """The connection to one server, made again whenever it breaks."""

    def __init__(self, target: Address, *, timeout: float, connect_timeout: float) -> None:
        self.target = target
        self.mode: Mode | None = None
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        self._pipe: Pipe | None = None
        self._reason = "not connected yet"
        self.send: Callable[[Exchange], None] = self._refuse
        """Sends an exchange, or refuses it at once when the server is away."""
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self.on_pipe: Callable[[], None] | None = None
        """Called whenever there is a new pipe for calls: what it sends is ahead of every call."""

    async def open(self) -> None:
        """Try once, then keep trying in the background; StoreRefused when trying again cannot help."""
        pipe = Pipe(self._timeout, self._fault)
        try:
            self.mode = await connect(self.target, pipe, seconds=self._connect_timeout)
        except NotReady as error:
            self._down(str(error))
            log.error(
                "Redis at %s cannot be used yet: %s. Calls are refused until it can; trying again.",
                self.target.label,
                error,
            )
            self._keeper = asyncio.create_task(self._keep(None))
        else:
            self._up(pipe)
            self._keeper = asyncio.create_task(self._keep(pipe))

    def begin(self) -> None:
        """Connect in the background; calls made meanwhile travel with the first connection."""
        pipe = Pipe(self._timeout, self._fault)
        self._take(pipe)
        self._keeper = asyncio.create_task(self._begin(pipe))

    @property
    def up(self) -> bool:
        """True while there is a connection."""
        return self._connected.is_set()

    async def close(self) -> None:
        """Wait for the replies that are due, then break the connection."""
        if self._keeper is not None:
            await cancelled(self._keeper)
        pipe, self._pipe = self._pipe, None
        self.send = self._refuse
        self._reason = "the adapter is closed"
        if pipe is not None:
            pipe.retire(self._reason)
            await pipe.drained()

    async def abort(self) -> None:
        """Break the connection, whatever is on its way."""
        pipe = self._pipe
        if pipe is not None:
            pipe.abort("the adapter is closed")
        await self.close()

    def _refuse(self, exchange: Exchange) -> None:
        exchange.refused(
            AdapterUnavailable(f"Redis at {self.target.label} cannot be used now: {self._reason}.")
        )

    async def connected(self, *, seconds: float) -> bool:
        """Wait so long for a connection; False when there is none yet."""
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    def _up(self, pipe: Pipe) -> None:
        self._connected.set()
        self._take(pipe)

    def _take(self, pipe: Pipe) -> None:
        if self._pipe is not pipe:
            self._pipe = pipe
            self.send = pipe.send
            if self.on_pipe is not None:
                self.on_pipe()

    def _down(self, reason: str) -> None:
        self._pipe = None
        self.send = self._refuse
        self._reason = reason
        self._connected.clear()

    def _fault(self, pipe: Pipe, fault: ServerFault) -> None:
        if fault.code in MOVED_ROLE:
            pipe.retire(str(fault))

    async def _keep(self, pipe: Pipe | None) -> None:
        """Watch the pipe, and make a new one whenever it is lost."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            if pipe is not None:
                since = loop.time()
                reason = await pipe.lost
                log.warning("Redis at %s: %s; connecting again.", self.target.label, reason)
                self._down(reason)
                if loop.time() - since > STEADY:
                    pause = FIRST_PAUSE
                    pipe = await self._at_once(Pipe(self._timeout, self._fault))
            if pipe is None or pipe.lost.done():
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
                pipe = await self._once(Pipe(self._timeout, self._fault))
            if pipe is not None:
                log.warning("Redis at %s is back.", self.target.label)

    async def _begin(self, pipe: Pipe) -> None:
        await self._keep(await self._at_once(pipe))

    async def _at_once(self, pipe: Pipe) -> Pipe | None:
        """A first attempt whose pipe takes calls already."""
        self._take(pipe)
        try:
            return await self._once(pipe)
        except asyncio.CancelledError:
            pipe.abandon(AdapterUnavailable("The adapter is closed."))
            raise

    async def _once(self, pipe: Pipe) -> Pipe | None:
        try:
            self.mode = await connect(self.target, pipe, seconds=self._connect_timeout)
        except (NotReady, StoreRefused) as error:
            if str(error) != self._reason:
                log.warning("Redis at %s: %s; trying again.", self.target.label, error)
            self._down(str(error))
            pipe.abandon(AdapterUnavailable(f"Redis at {self.target.label} cannot be used now: {error}."))
            return None
        self._up(pipe)
        return pipe
