"""uvicorn's HTTP/1.1 protocol with bounds on the head of a request and on a client's silence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

import httptools
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_URL = 65534
MAX_HEADERS = 100
MAX_HEAD = 512 * 1024
LINGER_S = 1.0
"""How long a refused client may go on sending: closing at once would cost it the answer."""

CLIENT_GONE = "iii_skill.client_gone"
"""The key of `scope` under which an application leaves the callable to tell."""

# Any status from 100 to 999 may be answered; uvicorn knows the lines below 600.
for _status in range(600, 1000):
    httptools_impl.STATUS_LINE.setdefault(_status, b"HTTP/1.1 %d \r\n" % _status)


class _Refused(Exception):
    """The head of a request is beyond its bounds."""


class HttpProtocol(HttpToolsProtocol):
    """One client connection."""

    _status = 400
    _refused = False
    _in_head = False
    _head_fed = 0
    _serving: RequestResponseCycle | None = None
    """The request that the application has now; `cycle` may be a pipelined one behind it."""
    _heard = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._heard = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Parse; a malformed request is answered 400, a head beyond its bounds 414 or 431, all empty."""
        if self._refused:
            return
        self._heard = self.loop.time()
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            self._refuse()
            return
        if self._in_head:
            self._head_fed += len(data)
            if self._head_fed > MAX_HEAD:
                self._status = 431
                self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_fed = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url
        if len(self.url) > MAX_URL:
            self._status = 414
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if len(self.headers) >= MAX_HEADERS:
            self._status = 431
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete: the application starts."""
        self._in_head = False
        super().on_headers_complete()

    def expire(self, since: float) -> None:
        """End a client that has sent nothing after `since` and owes the rest of a head or of a JSON body.

        A body that a function reads from its channel has the time of the function.
        """
        if self._refused or self._heard > since:
            return
        cycle, serving = self.cycle, self._serving
        if serving is None or serving.response_complete:
            if self._in_head:
                self._status = 408
                self._refuse()
            elif serving is None:
                self.transport.close()
        elif cycle is serving and cycle.more_body and CLIENT_GONE not in cycle.scope:
            self._status = 408
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application that nobody takes its answer any more."""
        super().connection_lost(exc)
        self.pipeline.clear()
        if self._serving is not None:
            _leave(self._serving)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self) -> None:
        self._refused = True
        cycle, serving = self.cycle, self._serving
        if serving is not None and not serving.response_complete:
            if cycle is serving and cycle.more_body:
                # Its own body is malformed and will never be complete.
                started = cycle.response_started
                _leave(cycle)
                if started:
                    self.transport.abort()
                    return
            else:
                # A pipelined request is malformed: the answers before it are still to be written.
                if cycle.more_body:
                    self.pipeline = deque(entry for entry in self.pipeline if entry[0] is not cycle)
                last = self.pipeline[0][0] if self.pipeline else serving
                last.keep_alive = False
                return
        line = httptools_impl.STATUS_LINE[self._status]
        self.transport.write(line + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.loop.call_later(LINGER_S, self.transport.close)


def _leave(cycle: RequestResponseCycle) -> None:
    """Tell the application that nobody takes the answer any more."""
    if cycle.response_complete:
        return
    cycle.disconnected = True
    cycle.message_event.set()
    scope: Any = cycle.scope
    gone = scope.get(CLIENT_GONE)
    if gone is not None:
        gone()


async def send_whole(send: Any, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a complete response in one write.

    `send` is that of uvicorn, which would write head and body apart, two system calls. The headers are
    valid, `content-length` among them where there is one.
    """
    cycle: RequestResponseCycle = send.__self__
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    parts = [httptools_impl.STATUS_LINE[status]]
    for name, value in cycle.default_headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
        if name == b"connection" and b"close" in value.lower():
            cycle.keep_alive = False
    if not cycle.keep_alive:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if cycle.scope["method"] != "HEAD":
        parts.append(body)
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.transport.write(b"".join(parts))
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
