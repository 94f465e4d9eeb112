"""ServerConnection: keeps a pipeline to one server, through restarts, pauses and failovers.

A broken connection is replaced at once, and calls made meanwhile travel with the new one. When that fails,
calls are refused at once with the reason, and it tries again with growing pauses until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from iii_skill.adapters.shared import Pauses, end_tasks
from iii_skill.errors import AdapterUnavailable, StoreRefused

from .connect import Address, Mode, NotReady, Server, connect
from .pipeline import Pipeline, PipelinedCommand
from .scripts import SCRIPTS, Script
from .server_errors import MOVED_ROLE, ServerFault

log = logging.getLogger(__name__)

QUIET_AT_CLOSE = 0.5
"""Replies that are due are waited for as long as no silence is longer than so many seconds."""
STEADY = 1.0
"""A connection that lived so many seconds is replaced without a pause."""


class ServerConnection:
    """The connection to one server, made again whenever it breaks."""

    def __init__(
        self,
        target: Address,
        *,
        timeout: float,
        connect_timeout: float,
        scripts: Sequence[Script] = SCRIPTS,
    ) -> None:
        self.target = target
        self._scripts = scripts
        self.mode: Mode | None = None
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        self._pipeline: Pipeline | None = None
        self._reason = "not connected yet"
        self.send: Callable[[PipelinedCommand], None] = self._refuse
        """Sends a command, or refuses it at once when the server is away."""
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self.on_server: Callable[[Server], None] | None = None
        """Called with what the server says of itself, whenever it was connected to."""
        self.on_connected: Callable[[], None] | None = None
        """Called whenever there is a new pipeline for calls: what it sends is ahead of every call."""

    async def open(self) -> None:
        """Try once, then keep trying in the background; StoreRefused when trying again cannot help."""
        pipeline = Pipeline(self._timeout, self._fault)
        try:
            server = await self._connect(pipeline)
        except NotReady as error:
            self._down(str(error))
            log.error(
                "Redis at %s cannot be used yet: %s. Calls are refused until it can; trying again.",
                self.target.label,
                error,
            )
            self._keeper = asyncio.create_task(self._keep(None))
        else:
            self._up(pipeline, server)
            self._keeper = asyncio.create_task(self._keep(pipeline))

    def begin(self) -> None:
        """Connect in the background; calls made meanwhile travel with the first connection."""
        pipeline = Pipeline(self._timeout, self._fault)
        self._take(pipeline)
        self._keeper = asyncio.create_task(self._begin(pipeline))

    @property
    def up(self) -> bool:
        """True while there is a connection."""
        return self._connected.is_set()

    async def close(self) -> None:
        """Wait for the replies that are due, then break the connection."""
        if self._keeper is not None:
            await end_tasks(self._keeper)
        pipeline, self._pipeline = self._pipeline, None
        self.send = self._refuse
        self._reason = "the adapter is closed"
        if pipeline is not None:
            pipeline.retire(self._reason)
            left = await pipeline.drained(quiet=QUIET_AT_CLOSE)
            if left:
                log.warning(
                    "Redis at %s did not answer %d calls before the adapter closed; whether the writes among "
                    "them were made is not known.",
                    self.target.label,
                    left,
                )

    async def abort(self) -> None:
        """Break the connection, whatever is on its way."""
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.abort("the adapter is closed")
        await self.close()

    def _refuse(self, command: PipelinedCommand) -> None:
        command.refused(
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

    def _up(self, pipeline: Pipeline, server: Server) -> None:
        self.mode = server.mode
        if self.on_server is not None:
            self.on_server(server)
        self._connected.set()
        self._take(pipeline)

    def _take(self, pipeline: Pipeline) -> None:
        if self._pipeline is not pipeline:
            self._pipeline = pipeline
            self.send = pipeline.send
            if self.on_connected is not None:
                self.on_connected()

    def _down(self, reason: str) -> None:
        self._pipeline = None
        self.send = self._refuse
        self._reason = reason
        self._connected.clear()

    def _fault(self, pipeline: Pipeline, fault: ServerFault) -> None:
        if fault.code in MOVED_ROLE:
            pipeline.retire(str(fault))

    async def _keep(self, pipeline: Pipeline | None) -> None:
        """Watch the pipeline, and make a new one whenever it is lost."""
        loop = asyncio.get_running_loop()
        pauses = Pauses()
        while True:
            if pipeline is not None:
                # Connected: wait for the end of it.
                since = loop.time()
                reason = await pipeline.lost
                log.warning("Redis at %s: %s; connecting again.", self.target.label, reason)
                self._down(reason)
                if loop.time() - since > STEADY:
                    # It worked until now, so the server is most likely there: calls need not be refused.
                    pauses.reset()
                    pipeline = await self._at_once(Pipeline(self._timeout, self._fault))
            if pipeline is None or pipeline.lost.done():
                # It is away, or takes connections and drops them: try with growing pauses.
                await pauses.wait()
                pipeline = await self._once(Pipeline(self._timeout, self._fault))
            if pipeline is not None:
                log.warning("Redis at %s is back.", self.target.label)

    async def _begin(self, pipeline: Pipeline) -> None:
        await self._keep(await self._at_once(pipeline))

    async def _at_once(self, pipeline: Pipeline) -> Pipeline | None:
        """A first attempt whose pipeline takes calls already."""
        self._take(pipeline)
        try:
            return await self._once(pipeline)
        except asyncio.CancelledError:
            pipeline.abandon(AdapterUnavailable("The adapter is closed."))
            raise

    async def _connect(self, pipeline: Pipeline) -> Server:
        return await connect(self.target, pipeline, seconds=self._connect_timeout, scripts=self._scripts)

    async def _once(self, pipeline: Pipeline) -> Pipeline | None:
        try:
            server = await self._connect(pipeline)
        except (NotReady, StoreRefused) as error:
            # A reason is told once, not with each attempt.
            if str(error) != self._reason:
                log.warning("Redis at %s: %s; trying again.", self.target.label, error)
            self._down(str(error))
            pipeline.abandon(AdapterUnavailable(f"Redis at {self.target.label} cannot be used now: {error}."))
            return None
        self._up(pipeline, server)
        return pipeline
