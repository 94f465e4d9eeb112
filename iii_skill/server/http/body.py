"""Reading a body and writing an answer, as ASGI messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from iii_skill.http import response
from iii_skill.http.cors import ALLOW_ORIGIN, Headers
from iii_skill.http.response import HeaderList, Response
from iii_skill.server.http_protocol import send_whole

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

BODYLESS = (204, 304)
MAX_STREAM_1_0 = 64 * 1024 * 1024


class ClientGone(Exception):
    """The client left."""


class Stream(Protocol):
    """A streamed answer."""

    status: int
    headers: HeaderList

    async def next_chunk(self) -> bytes | None:
        """The next part; None at the end."""


async def read_body(headers: dict[str, str], receive: Receive, limit: int) -> bytes | None:
    """The whole body; None when it is over the limit, ClientGone when it never comes to its end."""
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ClientGone
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not event.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def send_response(send: Send, answer: Response, extra: Headers) -> None:
    """Send a complete response; headers of the answer that CORS sets itself are overwritten."""
    headers = _merged(answer.headers, extra)
    body = answer.body
    if answer.status in BODYLESS:
        body = b""
    else:
        headers.append((b"content-length", b"%d" % len(body)))
    await send_whole(send, answer.status, headers, body)


async def send_stream(send: Send, stream: Stream, extra: Headers, *, buffered: bool) -> None:
    """Send a streamed answer chunked; `buffered` collects it for a client of HTTP/1.0."""
    if 100 <= stream.status < 200:
        await send_response(send, Response(500, []), extra)
        return
    if buffered:
        await send_response(send, await _collected(stream), extra)
        return
    headers = _merged(stream.headers, extra)
    await send({"type": "http.response.start", "status": stream.status, "headers": headers})
    silent = stream.status in BODYLESS
    while (chunk := await stream.next_chunk()) is not None:
        if not silent:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _collected(stream: Stream) -> Response:
    chunks: list[bytes] = []
    size = 0
    while (chunk := await stream.next_chunk()) is not None:
        size += len(chunk)
        if size > MAX_STREAM_1_0:
            return response.problem(
                500, "STREAM_TOO_LONG", "This answer is too long for a client of HTTP/1.0; use HTTP/1.1."
            )
        chunks.append(chunk)
    return Response(stream.status, stream.headers, b"".join(chunks))


def _merged(headers: HeaderList, extra: Headers) -> HeaderList:
    if any(name == ALLOW_ORIGIN for name, _ in headers) and any(name == ALLOW_ORIGIN for name, _ in extra):
        headers = [pair for pair in headers if pair[0] != ALLOW_ORIGIN]
    return [*headers, *extra]
