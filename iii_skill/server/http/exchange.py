"""One HTTP request on its way through functions: what settles it, its body and its two channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from iii_skill.calls import STOPPED, Call, Outcome, Result
from iii_skill.engine.channel import Channel
from iii_skill.http.cors import CorsHeaders
from iii_skill.http.request import RequestParts
from iii_skill.http.response import MAX_HEADERS, HeaderList, Response, problem, stream_headers
from iii_skill.http.routes import Route
from iii_skill.server.http.body import Body

MAX_STREAM_1_0 = 64 * 1024 * 1024


class HttpClient(Protocol):
    """The connection that a request came from. Whatever ends the answer makes it forget the exchange."""

    writable: bool
    """False while the client reads slower than it is answered."""

    def answer(self, response: Response, cors: CorsHeaders) -> None:
        """Send a complete answer."""

    def begin_stream(self, status: int, headers: HeaderList, cors: CorsHeaders) -> None:
        """Send the head of an answer that comes in parts."""

    def stream(self, data: bytes) -> None:
        """Send a part of it."""

    def end_stream(self) -> None:
        """That was the last part."""

    def abort(self) -> None:
        """There will be no last part."""


class Application(Protocol):
    """Who leads exchanges through functions."""

    def serve(self, exchange: Exchange) -> None:
        """A request has come; its body may still be on its way."""

    def settled(self, exchange: Exchange, outcome: Outcome, call: Call | None) -> None:
        """The function that was called last has answered; no call: it had, and more was to come."""

    def nothing(self, exchange: Exchange) -> None:
        """The function of the route answered null: the request waits for the `response` channel."""

    def streams(self, exchange: Exchange) -> None:
        """The answer comes through the `response` channel, and has begun."""

    def left(self, exchange: Exchange) -> None:
        """The client is gone."""

    def complain(self, exchange: Exchange, complaint: str) -> None:
        """The function of the route says something that has no effect."""

    def over(self, exchange: Exchange) -> None:
        """Nobody waits for anything any more."""


class Exchange:
    """A request and its answer. It holds its client until the answer is out or the client is gone.

    The first of these settles the function of a route: an answer that is not null, a binary message on
    `response`, or the end of that channel. Both channels are made when somebody opens them.
    """

    __slots__ = (
        "_app",
        "_collected",
        "_collected_size",
        "body",
        "call",
        "client",
        "cors",
        "ended",
        "headers",
        "key",
        "method",
        "null",
        "old",
        "pairs",
        "parts",
        "path",
        "query",
        "request",
        "response",
        "route",
        "serial",
        "silence",
        "status",
        "steps",
        "stream_headers",
        "streaming",
        "weight",
    )

    def __init__(
        self,
        client: HttpClient,
        app: Application,
        method: str,
        path: str,
        query: bytes,
        pairs: list[tuple[bytes, bytes]],
        headers: dict[str, str],
        body: Body | None,
        *,
        old: bool,
    ) -> None:
        self.client: HttpClient | None = client
        self._app = app
        self.method = method
        self.path = path
        self.query = query
        self.pairs = pairs
        self.headers = headers
        self.body = body
        self.old = old
        """True for a client of HTTP/1.0, which takes no chunks."""
        self.cors: CorsHeaders
        self.route: Route
        self.parts: RequestParts
        self.steps: list[str] | None = None
        """The middleware and condition still to be asked, the next one last; None once the function is."""
        self.call: Call | None = None
        self.ended: Callable[[], None] | None = None
        """What is to be called when it is over."""
        self.weight = 0
        """Bytes of its body that stay in memory until it is over."""
        self.serial = 0
        self.key = ""
        self.null = False
        self.silence: asyncio.TimerHandle | None = None
        self.request: Channel | None = None
        self.response: Channel | None = None
        self.streaming = False
        self.status = 200
        self.stream_headers: HeaderList = []
        self._collected: list[bytes] | None = None
        self._collected_size = 0

    def answer(self, response: Response, cors: CorsHeaders) -> None:
        """Send a complete answer, and be done."""
        client = self.client
        if client is not None:
            self.client = None
            self.status = response.status
            client.answer(response, cors)
        self._end()

    def reply(self, outcome: Outcome) -> None:
        """Take the outcome of the call; one that comes too late is dropped."""
        call = self.call
        if call is None:
            return
        self.call = None
        if self.client is None:
            # The client left, and the call ran on.
            self._app.over(self)
        elif self.streaming:
            return
        elif (
            self.steps is None
            and type(outcome) is Result
            and (outcome.value is None or outcome.value == b"null")
        ):
            self.null = True
            self._app.nothing(self)
        else:
            self._app.settled(self, outcome, call)

    def leave(self) -> None:
        """The client is gone. What was called runs on, and its answer is dropped."""
        self.client = None
        self.close_channels()
        self._app.left(self)

    def resume(self) -> None:
        """The client has taken what it was sent."""
        if self.streaming:
            self._send_stream()

    def open_body(self) -> Channel:
        """The channel `request_body`."""
        if self.request is None:
            if self.body is None:
                self.body = Body.kept(b"")
            self.request = self.body.open()
        return self.request

    def open_response(self) -> Channel:
        """The channel `response`."""
        if self.response is None:
            self.response = Channel()
            self.response.attach_reader(self)
        return self.response

    def notify(self) -> None:
        """`response` has a message, or has ended."""
        channel = self.response
        if channel is None or self.client is None:
            return
        if self.streaming:
            self._send_stream()
            return
        while (message := channel.take()) is not None:
            if isinstance(message, bytes):
                self._begin_stream(message)
                return
            self._control(message)
        if not channel.drained:
            return
        if not channel.lost:
            self._begin_stream(b"")
        elif self.call is None:
            # It answered null, and was lost before it sent anything.
            self._app.settled(self, STOPPED, None)

    def _begin_stream(self, first: bytes) -> None:
        client = self.client
        assert client is not None
        self.streaming = True
        self._app.streams(self)
        if 100 <= self.status < 200:
            self.answer(Response(500, []), self.cors)
        elif self.old:
            self._collected = [first]
            self._collected_size = len(first)
            self._send_stream()
        else:
            client.begin_stream(self.status, self.stream_headers, self.cors)
            if first:
                client.stream(first)
            self._send_stream()

    def _send_stream(self) -> None:
        """Send on as long as the client takes it: the bound of the channel holds the writer back."""
        channel, client = self.response, self.client
        assert channel is not None
        while client is not None and (client.writable or self._collected is not None):
            message = channel.take()
            if message is None:
                break
            if isinstance(message, bytes) and message:
                if self._collected is None:
                    client.stream(message)
                else:
                    self._collect(self._collected, message)
                client = self.client
        if client is None or not channel.drained:
            return
        if channel.lost:
            # Half an answer is never taken for a whole one.
            client.abort()
            return
        if self._collected is not None:
            self.answer(Response(self.status, self.stream_headers, b"".join(self._collected)), self.cors)
            return
        self.client = None
        client.end_stream()
        self._end()

    def _collect(self, collected: list[bytes], data: bytes) -> None:
        collected.append(data)
        self._collected_size += len(data)
        if self._collected_size > MAX_STREAM_1_0:
            text = "This answer is too long for a client of HTTP/1.0; use HTTP/1.1."
            self.answer(problem(500, "STREAM_TOO_LONG", text), self.cors)

    def _control(self, text: str) -> None:
        """`set_status` and `set_headers`; anything else is ignored."""
        if len(text) > MAX_HEADERS:
            self._app.complain(self, f"a text on `response` is longer than {MAX_HEADERS}: it is ignored")
            return
        try:
            message = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return
        if not isinstance(message, dict):
            return
        if message.get("type") == "set_status":
            status = message.get("status_code")
            if type(status) is int and 100 <= status <= 599:
                self.status = status
        elif message.get("type") == "set_headers" and isinstance(message.get("headers"), dict):
            self.stream_headers, lost = stream_headers(message["headers"])
            if lost is not None:
                self._app.complain(self, lost)

    def _end(self) -> None:
        self.close_channels()
        self._app.over(self)

    def close_channels(self) -> None:
        """Both references end. The channel and the exchange let go of each other."""
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None
        response, self.response = self.response, None
        if response is not None:
            response.leave()
        self.request = None
        body, self.body = self.body, None
        if body is not None:
            body.leave()
        self._collected = None
