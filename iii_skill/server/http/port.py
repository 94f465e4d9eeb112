"""The HTTP port: uvicorn's protocol on the running event loop, with our application behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from email.utils import formatdate
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from iii_skill.calls import Failure
from iii_skill.config import HttpSettings
from iii_skill.engine.engine import Engine
from iii_skill.http.provider import HttpTriggers
from iii_skill.server.guard import Guard
from iii_skill.server.http_app import HttpApp
from iii_skill.server.http_io import Receive, Send
from iii_skill.server.http_protocol import HttpProtocol
from iii_skill.server.worker_port import listen_error

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest JSON body that is held in memory; other bodies are streamed and have no limit."""

KEEP_ALIVE_S = 75
SILENCE_S = 60.0
"""How long a client may leave a request half sent."""

STOPPED = Failure("invocation_stopped", "Invocation stopped")


class HttpServer:
    """The listening HTTP port. `port` is the real one after `start`."""

    def __init__(
        self,
        engine: Engine,
        triggers: HttpTriggers,
        settings: HttpSettings,
        *,
        guard: Guard | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.port = settings.port
        self._settings = settings
        if guard is None:
            origins = settings.cors.allowed_origins if settings.cors is not None else None
            guard = Guard((settings.host,), origins or ())
        self.app = HttpApp(engine, triggers, settings, guard=guard, max_body_bytes=max_body_bytes)
        self._state = ServerState()
        self._silence_s = silence_s
        self._watch: asyncio.TimerHandle | None = None
        self._second = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str | None = None, port: int | None = None) -> None:
        """Listen; PortTaken or ConfigurationError when that is not possible. Port 0 picks a free one."""
        host = self._settings.host if host is None else host
        port = self._settings.port if port is None else port
        loop = asyncio.get_running_loop()
        config = Config(
            self._serve,
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        try:
            self._server = await loop.create_server(
                lambda: HttpProtocol(config, self._state, {}, loop), host, port, backlog=2048
            )
        except OSError as error:
            raise listen_error(error, host, port, "--http-port") from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._end_the_silent(loop)

    def stop_accepting(self) -> None:
        """Take no new connection, close the idle ones, let running requests finish."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def stop(self, grace: float = 2.0) -> None:
        """Stop: requests get `grace` seconds to finish, then 500 `invocation_stopped`; streams are cut."""
        self.stop_accepting()
        if self._watch is not None:
            self._watch.cancel()
        await self._finished(grace)
        for waiter in self.app.running:
            waiter.reply(STOPPED)
        await self._finished(0.5)
        for connection in list(self._state.connections):
            connection.transport.abort()
        await self._finished(0.5)
        for task in list(self._state.tasks):
            task.cancel()
        self.app.running.close()

    def _end_the_silent(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at all connections now and then: a timer for each request would cost each request."""
        since = loop.time() - self._silence_s
        for connection in list(self._state.connections):
            if isinstance(connection, HttpProtocol):
                connection.expire(since)
        self._watch = loop.call_later(self._silence_s / 4, self._end_the_silent, loop)

    async def _finished(self, timeout: float) -> None:
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=timeout)

    def _serve(self, scope: Any, receive: Receive, send: Send) -> Awaitable[None]:
        """The ASGI callable; keeps the `date` header fresh without a timer."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            # In place: a request that is being served holds this very list.
            self._state.default_headers[:] = [(b"date", formatdate(second, usegmt=True).encode())]
        return self.app(scope, receive, send)
