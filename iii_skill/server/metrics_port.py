"""The port for those who watch a host: `/metrics`, `/healthz` and `/readyz`, on loopback alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from iii_skill.http.cors import NO_CORS
from iii_skill.http.request import joined
from iii_skill.http.response import Response, problem
from iii_skill.metrics.exposition import CONTENT_TYPE, exposition
from iii_skill.metrics.readings import Readings
from iii_skill.server.guard import Guard
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import MEBIBYTE, HttpLimits
from iii_skill.server.plain_port import PlainApp, PlainPort

logger = logging.getLogger(__name__)

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


class MetricsApp(PlainApp):
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


class MetricsServer:
    """The listening port."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._app = MetricsApp(readings, Guard())
        self._port = PlainPort(self._app, LIMITS, option="--metrics-port")

    async def start(self, port: int) -> None:
        """Listen; raises PortTaken. Port 0 picks a free one."""
        await self._port.start(port)
        self._readings.lag.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._port.url

    def stop(self) -> None:
        """Take no new connection, and end those that are there."""
        self._readings.lag.stop()
        self._app.close()
        self._port.stop()


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
