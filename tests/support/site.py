"""A real HTTP port and worker port before an engine with in-process functions, and a raw HTTP client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from support.client import WAIT_S

from iii_skill.calls import Call, Failure
from iii_skill.config import HttpSettings
from iii_skill.engine.engine import Engine
from iii_skill.http.provider import HttpTriggers
from iii_skill.server.guard import Guard
from iii_skill.server.http.limits import HttpLimits
from iii_skill.server.http.port import HttpServer
from iii_skill.server.worker_port import Listening, WorkerServer
from iii_skill.triggers import Trigger


class Reply(msgspec.Struct):
    """A response as it came over the wire; `closed` when the server ended the connection with it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header; a repeated one joined with a bar."""
        values = [value for key, value in self.headers if key == name]
        return "|".join(values) if values else None

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class Site:
    """Routes, functions, and a client."""

    def __init__(self, settings: HttpSettings, guard: Guard | None, limits: HttpLimits) -> None:
        self.engine = Engine()
        self.triggers = HttpTriggers()
        self.engine.add_provider(self.triggers)
        self.calls: list[Call] = []
        self.http = HttpServer(self.engine, self.triggers, settings, guard=guard, limits=limits)
        self.workers = WorkerServer(self.engine, Listening(host="127.0.0.1", port=0), Guard())
        self._writers: list[asyncio.StreamWriter] = []
        self._count = 0

    def route(
        self,
        path: str,
        handler: Callable[[Call], None],
        method: str = "GET",
        *,
        metadata: bytes | None = None,
        **config: Any,
    ) -> str:
        """Serve a path with a handler; gives back the function id."""
        self._count += 1
        function_id = f"t::f{self._count}"
        self.function(function_id, handler)
        config = {"api_path": path, "http_method": method, **config}
        trigger = Trigger(f"tr{self._count}", "http", function_id, json.dumps(config).encode(), metadata)
        self.engine.add_trigger(trigger)
        return function_id

    def answer(self, path: str, value: Any, method: str = "GET", **config: Any) -> str:
        """Serve a path with one constant answer (bytes are sent as they are)."""
        encoded = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.route(path, lambda call: call.succeed(encoded), method, **config)

    def function(self, function_id: str, handler: Callable[[Call], None]) -> None:
        """A function that records its calls."""

        def recorded(call: Call) -> None:
            self.calls.append(call)
            handler(call)

        self.engine.add_function(function_id, recorded)

    def data(self, index: int = -1) -> Any:
        """The payload of a call."""
        return json.loads(self.calls[index].data)

    async def get(self, path: str, **headers: str) -> Reply:
        """GET over a connection of its own."""
        return await self.request("GET", path, headers=headers)

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request over a connection of its own."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return await self.raw(head + (body or b""), method=method)

    async def raw(self, data: bytes, *, method: str = "GET") -> Reply:
        """Send bytes, read one response."""
        reader, writer = await self.connect()
        writer.write(data)
        reply = await read_reply(reader, head_only=method == "HEAD")
        await _closed(writer)
        return reply

    async def connect(self, *, limit: int = 1 << 20) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the HTTP port, closed at the latest with the site."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http.port, limit=limit)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """Close servers and clients."""
        for writer in self._writers:
            await _closed(writer)
        await self.http.stop(0.1)
        await self.workers.stop(1012, "done")
        self.engine.close()

    def channel_url(self, ref: dict[str, str], direction: str | None = None) -> str:
        """The address of one end of a channel."""
        return (
            f"ws://127.0.0.1:{self.workers.port}/ws/channels/{ref['channel_id']}"
            f"?key={ref['access_key']}&dir={direction or ref['direction']}"
        )


async def read_reply(reader: asyncio.StreamReader, *, head_only: bool = False) -> Reply:
    """One response."""
    async with asyncio.timeout(WAIT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in head[1:-2])]
        fields = dict(headers)
        if head_only or status in (204, 304):
            body = b""
        elif fields.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in chunks(reader)])
        else:
            body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Reply(status, headers, body)


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The chunks of a chunked body."""
    while True:
        size = int(await reader.readline(), 16)
        chunk = await reader.readexactly(size)
        await reader.readexactly(2)
        if not size:
            return
        yield chunk


@asynccontextmanager
async def open_site(
    *,
    guard: Guard | None = None,
    limits: HttpLimits | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """A site on free ports."""
    site = Site(HttpSettings(port=0, **settings), guard, limits or HttpLimits(max_body_bytes=1 << 20))
    await site.workers.start()
    await site.http.start()
    try:
        yield site
    finally:
        await site.close()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def never(call: Call) -> None:
    """A function that does not answer."""


def failing(code: str, message: str) -> Callable[[Call], None]:
    """A function that answers an error."""
    return lambda call: call.reply(Failure(code, message, "secret trace"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of this process."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0)
