"""The listening HTTP port."""

from __future__ import annotations

import asyncio
import resource
import socket

from iii_skill.config import HttpSettings
from iii_skill.engine.engine import Engine
from iii_skill.http.provider import HttpTriggers
from iii_skill.server.guard import Guard
from iii_skill.server.http.app import HttpApp
from iii_skill.server.http.limits import HttpLimits
from iii_skill.server.http.protocol import HttpConnection
from iii_skill.server.http.shared import ClientConnection, Shared
from iii_skill.server.listen import BACKLOG, Listeners, listen

MANY = 100_000
"""Clients at a time where the system does not bound the files of a process."""


class HttpServer:
    """The listening HTTP port. `port` is the real one after `start`."""

    def __init__(
        self,
        engine: Engine,
        triggers: HttpTriggers,
        settings: HttpSettings,
        *,
        guard: Guard | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self.port = settings.port
        self._settings = settings
        if guard is None:
            origins = settings.cors.allowed_origins if settings.cors is not None else None
            guard = Guard((settings.host,), origins or ())
        self._shared = shared = Shared(limits or HttpLimits())
        self.app = HttpApp(
            engine,
            triggers,
            settings,
            guard=guard,
            limits=shared.limits,
            bodies=shared.bodies,
            unread=shared.unread,
        )
        shared.app = self.app
        shared.left = self._left
        self._watch: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event = asyncio.Event()
        self._listeners: Listeners | None = None

    @property
    def connections(self) -> set[ClientConnection]:
        """The clients that are there now."""
        return self._shared.connections

    @property
    def held_bodies(self) -> int:
        """Bytes of bodies that no function has taken yet, or has not answered."""
        return self._shared.bodies.used

    @property
    def unread(self) -> int:
        """Bytes of answers that clients have not read."""
        return self._shared.unread.used

    async def start(self, host: str | None = None, port: int | None = None) -> None:
        """Listen; PortTaken or ConfigurationError when that is not possible. Port 0 picks a free one."""
        host = self._settings.host if host is None else host
        port = self._settings.port if port is None else port
        loop = asyncio.get_running_loop()
        shared = self._shared
        shared.max_connections = shared.limits.max_connections or _most_connections()

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await loop.create_server(lambda: HttpConnection(shared), sock=bound, backlog=BACKLOG)

        self._listeners = await listen(serve, host, port, option="--http-port")
        self.port = self._listeners.port
        self._look(loop)

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._listeners is not None, "it does not listen yet"
        return f"http://{self._listeners.host}:{self._listeners.port}"

    def stop_accepting(self) -> None:
        """Take no new connection, close the idle ones, let running requests finish."""
        if self._listeners is not None:
            self._listeners.close()
        self._shared.stopping = True
        for connection in list(self.connections):
            connection.end_when_idle()

    async def stop(self, grace: float = 2.0) -> None:
        """Stop: requests get `grace` seconds to finish, then 500 `invocation_stopped`; streams are cut."""
        self.stop_accepting()
        if self._watch is not None:
            self._watch.cancel()
        await self._left_within(grace)
        self.app.stop()
        await self._left_within(0.5)
        for connection in list(self.connections):
            connection.abort()
        await self._left_within(0.5)
        self.app.close()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at all connections now and then: a timer for each request would cost each request."""
        pause = self._shared.limits.silence_s / 4
        self._watch = loop.call_later(pause, self._look, loop)
        for connection in list(self.connections):
            connection.check_time(pause)

    def _left(self) -> None:
        if not self.connections:
            self._empty.set()

    async def _left_within(self, timeout: float) -> None:
        if not self.connections:
            return
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return


def _most_connections() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MANY if files == resource.RLIM_INFINITY else files * 3 // 4
