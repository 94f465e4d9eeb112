"""The port for those who watch a host: `/metrics`, `/healthz` and `/readyz`, on loopback alone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import msgspec

from iii_skill.calls import Outcome
from iii_skill.http.cors import NO_CORS
from iii_skill.http.request import joined
from iii_skill.http.response import Response, problem
from iii_skill.metrics.exposition import CONTENT_TYPE, exposition
from iii_skill.metrics.readings import Readings
from iii_skill.server.guard import Guard
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import MEBIBYTE, HttpLimits
from iii_skill.server.http.protocol import HttpConnection, Shared
from iii_skill.server.listen import BACKLOG, Listeners, listen

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"

LIMITS = HttpLimits(
    max_connections=64,
    max_bodies_bytes=MEBIBYTE,
    max_unread_bytes=64 * MEBIBYTE,
    silence_s=10.0,
    keep_alive_s=120.0,
)
"""A few watchers, who ask once in some seconds."""

JSON = (b"content-type", b"application/json")
NOT_CACHED = (b"cache-control", b"no-store")
NOT_FOUND = problem(404, "NOT_FOUND", "This port serves /metrics, /healthz and /readyz.")
NOT_ALLOWED = Response(405, [(b"allow", b"GET, HEAD")])
HEALTHY = Response(200, [JSON, NOT_CACHED], b'{"ok":true}')


class MetricsApp:
    """Answers one request after the other; those that ask the same at the same time get one answer."""

    def __init__(self, readings: Readings, guard: Guard) -> None:
        self._readings = readings
        self._guard = guard
        self._making: dict[str, asyncio.Task[Response]] = {}
        self._pages: dict[str, Callable[[], Awaitable[Response]]] = {
            "/metrics": self._metrics,
            "/readyz": self._ready,
        }

    def serve(self, exchange: Exchange) -> None:
        """Serve one request."""
        headers = exchange.headers
        host, origin = joined(exchange.pairs, b"host"), joined(exchange.pairs, b"origin")
        refusal = self._guard.refusal(host, origin, headers)
        if refusal is not None:
            exchange.answer(problem(403, "FORBIDDEN", refusal), NO_CORS)
        elif exchange.path != "/healthz" and exchange.path not in self._pages:
            exchange.answer(NOT_FOUND, NO_CORS)
        elif exchange.method not in ("GET", "HEAD"):
            exchange.answer(NOT_ALLOWED, NO_CORS)
        elif exchange.path == "/healthz":
            exchange.answer(HEALTHY, NO_CORS)
        else:
            self._later(exchange)

    def close(self) -> None:
        """Nobody waits any more."""
        for task in self._making.values():
            task.cancel()

    def _later(self, exchange: Exchange) -> None:
        path = exchange.path
        task = self._making.get(path)
        if task is None:
            task = self._making[path] = asyncio.ensure_future(self._made(path))
        task.add_done_callback(lambda done: _answer(exchange, done))

    async def _made(self, path: str) -> Response:
        try:
            return await self._pages[path]()
        finally:
            del self._making[path]

    async def _metrics(self) -> Response:
        text = exposition(await self._readings.families())
        return Response(200, [(b"content-type", CONTENT_TYPE.encode()), NOT_CACHED], text)

    async def _ready(self) -> Response:
        readiness = await self._readings.readiness()
        status = 200 if readiness.ready else 503
        return Response(status, [JSON, NOT_CACHED], msgspec.json.encode(readiness))

    # What exchanges with functions need, and these do not.

    def settled(self, exchange: Exchange, outcome: Outcome) -> None:
        """No function is called."""

    def nothing(self, exchange: Exchange) -> None:
        """No function is called."""

    def streams(self, exchange: Exchange) -> None:
        """No answer comes in parts."""

    def left(self, exchange: Exchange) -> None:
        """The answer is made all the same; others may wait for it."""

    def complain(self, exchange: Exchange, complaint: str) -> None:
        """No function is called."""

    def over(self, exchange: Exchange) -> None:
        """Nothing is held for it."""


class MetricsServer:
    """The listening port."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._app = MetricsApp(readings, Guard())
        self._shared = Shared(LIMITS)
        self._shared.app = self._app
        self._shared.left = lambda: None
        self._watch: asyncio.TimerHandle | None = None
        self._listeners: Listeners | None = None

    async def start(self, port: int) -> None:
        """Listen; raises PortTaken. Port 0 picks a free one."""
        loop = asyncio.get_running_loop()
        shared = self._shared

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await loop.create_server(lambda: HttpConnection(shared), sock=bound, backlog=BACKLOG)

        self._listeners = await listen(serve, ADDRESS, port, option="--metrics-port")
        self._readings.lag.start()
        self._look(loop)

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._listeners is not None, "it does not listen yet"
        return f"http://{self._listeners.host}:{self._listeners.port}"

    def stop(self) -> None:
        """Take no new connection, and end those that are there."""
        if self._listeners is not None:
            self._listeners.close()
        if self._watch is not None:
            self._watch.cancel()
        self._readings.lag.stop()
        self._app.close()
        self._shared.stopping = True
        for connection in list(self._shared.connections):
            connection.abort()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = LIMITS.silence_s / 4
        self._watch = loop.call_later(pause, self._look, loop)
        for connection in list(self._shared.connections):
            connection.check_time(pause)


def _answer(exchange: Exchange, done: asyncio.Task[Response]) -> None:
    if done.cancelled():
        exchange.answer(problem(503, "STOPPING", "The host is stopping."), NO_CORS)
        return
    error = done.exception()
    if error is not None:
        logger.error("a page for watchers could not be made", exc_info=error)
        exchange.answer(problem(500, "INTERNAL", "The figures could not be read."), NO_CORS)
        return
    exchange.answer(done.result(), NO_CORS)
