"""One client connection: bytes in, requests to the app in order, answers out.

llhttp reads the bytes. It is never given more than the rest of one message, so nothing behind a request is
looked at before that is answered, and a client that does not read its answers gets no more work done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from iii_skill.few_warnings import FewWarnings
from iii_skill.http.cors import NO_CORS, CorsHeaders
from iii_skill.http.request import header_map, joined
from iii_skill.http.response import HeaderList, Response, failure, problem
from iii_skill.server.http.body import CHUNK, Body
from iii_skill.server.http.exchange import Application, Exchange
from iii_skill.server.http.head import BODYLESS, STATUS_LINES, absolute, answer_head, closes, refusal
from iii_skill.server.http.limits import MAX_HEAD, MAX_HEADERS, MAX_URL, Budget, HttpLimits

logger = logging.getLogger(__name__)

LINGER_S = 1.0
"""How long a client may go on sending after its last answer: closing at once would cost it that."""

AT_ONCE = 32
"""So many pipelined requests are served in one turn of the event loop, then others have theirs."""

END = b"\r\n\r\n"
"""How a head ends, and a chunked body with its trailers."""

BUSY = problem(
    503, "BUSY", "More request bodies are on their way than this host holds in memory; try again later."
)


class Shared:
    """What all connections of a port share."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.max_connections = limits.max_connections
        self.warnings = FewWarnings(logger, "HTTP clients")
        self.connections: set[HttpConnection] = set()
        self.bodies = Budget(limits.max_bodies_bytes)
        self.unread = Budget(limits.max_unread_bytes)
        self.stopping = False
        self.app: Application
        self.left: Callable[[], None]
        self._second = 0
        self._date = b""

    def date(self) -> bytes:
        """The `date` line of an answer."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = b"date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date


class _Refused(Exception):
    """The head of a request is beyond its bounds."""


class HttpConnection(asyncio.Protocol):
    """One client. It is reading a head, or the body of the request that it is serving or has answered."""

    __slots__ = (
        "_chunked",
        "_closing",
        "_continue",
        "_counted",
        "_exchange",
        "_fed",
        "_head_done",
        "_in_body",
        "_keep_alive",
        "_linger",
        "_message_done",
        "_overhead",
        "_own_head",
        "_pairs",
        "_parser",
        "_parsing",
        "_received",
        "_remaining",
        "_rest",
        "_served",
        "_shared",
        "_status",
        "_stream_chunked",
        "_stuck_at",
        "_tail",
        "_transport",
        "_unread",
        "_url",
        "_version",
        "age",
        "reading",
        "writable",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        # The head that is being read.
        self._url = b""
        self._pairs: list[tuple[bytes, bytes]] = []
        self._fed = 0
        self._tail = b""
        self._head_done = False
        self._version = ""
        # The body that is being read.
        self._in_body = False
        self._chunked = False
        self._remaining = 0
        self._received = 0
        self._overhead = 0
        self._message_done = False
        self._own_head = False
        self._continue = False
        # What is not parsed yet.
        self._rest = b""
        self._parsing = False
        self.reading = True
        self._counted = 0
        # The answer.
        self._status = 400
        self._served = False
        self._keep_alive = True
        self._stream_chunked = False
        self._closing = False
        self._linger: asyncio.TimerHandle | None = None
        self.writable = True
        self._unread = 0
        self._stuck_at = 0
        self.age = 0.0
        """Seconds in the state that has to end: without a request, within a head or a body, or stuck."""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        shared = self._shared
        self._transport = cast(asyncio.Transport, transport)
        if len(shared.connections) >= shared.max_connections:
            shared.warnings.warn(
                "", "there are %s HTTP clients: more are hung up on", str(shared.max_connections)
            )
            self.abort()
            return
        shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: tell what is on its way, and let go of everything that holds this."""
        shared = self._shared
        shared.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        self._transport = self._parser = None
        self._closing = True
        self._rest = b""
        self._pairs = []
        self._count(0)
        shared.unread.give(self._unread)
        self._unread = 0
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if exchange is not None:
            exchange.leave()
        shared.left()

    def data_received(self, data: bytes) -> None:
        """Take what came; behind the last request of a connection it is dropped."""
        if self._closing:
            return
        if self._rest:
            # It was on its way when reading stopped.
            self._keep(self._rest + data)
        else:
            self._take(data)

    def pause_writing(self) -> None:
        """The client reads slower than it is answered: it gets nothing more done until it has caught up."""
        self.writable = False
        self.age = 0.0
        if self._transport is not None:
            self._unread = self._stuck_at = self._transport.get_write_buffer_size()
            self._shared.unread.take(self._unread)

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writable = True
        self.age = 0.0
        self._shared.unread.give(self._unread)
        self._unread = 0
        if self._exchange is not None:
            self._exchange.resume()
        self._go_on_soon()

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        if len(self._url) > MAX_URL:
            self._status = 414
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: those are counted and left out, whatever they are named."""
        pairs = self._pairs
        if len(pairs) == MAX_HEADERS:
            self._status = 431
            raise _Refused
        pairs.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if not self._own_head:
            self._head_done = True
            parser = self._parser
            assert parser is not None
            self._version = parser.get_http_version()
            self._keep_alive = parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._received += len(data)
        if self._exchange is not None and self._exchange.body is not None:
            self._exchange.body.feed(data)

    def on_message_complete(self) -> None:
        """The body is complete, or there is none."""
        self._message_done = True

    # Reading.

    def _take(self, data: bytes) -> None:
        """Parse message by message, as far as there is leave to."""
        self._parsing = True
        position, size, served = 0, len(data), 0
        while position < size and not self._closing:
            if not self._in_body:
                if self._exchange is not None or not self.writable or served == AT_ONCE:
                    self._keep(data[position:])
                    break
                served += 1
                if data[position] in b"\r\n" and not self._fed:
                    # Blank lines may stand before a request; they neither begin it nor keep a client alive.
                    data = data[position:].lstrip(b"\r\n")
                    position, size = 0, len(data)
                    continue
            stop = self._boundary(data, position, size)
            piece = data if stop - position == size else data[position:stop]
            position = stop
            self._feed(piece)
        self._parsing = False
        if self._rest and self._exchange is None and self.writable:
            self._go_on_soon()

    def _boundary(self, data: bytes, position: int, size: int) -> int:
        """Where the piece ends that belongs to this message for sure."""
        if self._in_body and not self._chunked:
            return min(size, position + self._remaining)
        tail = self._tail
        if tail:
            # The end may lie across two reads.
            found = (tail + data[position : position + 3]).find(END)
            if found >= 0:
                return position + found + 4 - len(tail)
        found = data.find(END, position)
        return size if found < 0 else found + 4

    def _feed(self, piece: bytes) -> None:
        parser = self._parser
        assert parser is not None
        offered, received = False, self._received
        try:
            parser.feed_data(piece)
        except HttpParserUpgrade:
            offered = True
        except HttpParserError:
            self._refuse(self._status)
            return
        if self._head_done:
            self._head_done = False
            self._begin(self._fed + len(piece), offered=offered)
        elif not self._in_body:
            self._within_head(piece)
        else:
            self._within_body(piece, self._received - received)
        if self._message_done and not self._closing:
            self._end_of_message()

    def _within_head(self, piece: bytes) -> None:
        if not self._fed:
            self.age = 0.0
        self._fed += len(piece)
        self._tail = (self._tail + piece)[-3:]
        if self._fed > MAX_HEAD + len(self._url):
            self._refuse(431)
        elif not self._count(self._fed):
            self._refuse(503)

    def _within_body(self, piece: bytes, body_bytes: int) -> None:
        self._remaining -= len(piece)
        if self._chunked:
            # Chunk sizes, extensions and trailers are of no use to anybody.
            self._overhead = 0 if body_bytes else self._overhead + len(piece)
            self._tail = (self._tail + piece)[-3:]
            if self._overhead > MAX_HEAD:
                self._refuse(431)
                return
        exchange = self._exchange
        if exchange is not None and exchange.body is not None and not self._count(exchange.body.held):
            if exchange.streaming:
                self._refuse(503)
            else:
                self._keep_alive = False
                exchange.answer(BUSY, exchange.cors)

    def _begin(self, size: int, *, offered: bool) -> None:
        """A head of that size is complete: find out how long its message is, and have it served."""
        parser = self._parser
        assert parser is not None
        pairs, self._pairs = self._pairs, []
        target, self._url = self._url, b""
        self._fed = 0
        self._tail = b""
        if self._counted:
            self._count(0)
        headers = header_map(pairs)
        coding = headers.get("transfer-encoding")
        if len(headers) != len(pairs) and coding is not None:
            coding = joined(pairs, b"transfer-encoding")
        length = headers.get("content-length", "0")
        method = parser.get_method()
        if size - len(target) > MAX_HEAD:
            self._refuse(431)
            return
        refused = refusal(self._version, method, target, coding, length)
        if refused:
            self._refuse(refused)
            return
        self._chunked = coding is not None
        self._remaining = int(length)
        body = None
        if self._chunked or self._remaining:
            body = Body(self)
            self._in_body = True
            self._received = self._overhead = 0
            self._message_done = False
            self._continue = self._version == "1.1" and headers.get("expect", "").lower() == "100-continue"
            self.age = 0.0
            if offered:
                # No offer of another protocol is taken, but the parser believes that what follows speaks
                # it. So another one reads the body, behind a head of ours that says the same of its length.
                self._own_head = True
                self._parser = parser = HttpRequestParser(self)
                line = b"transfer-encoding: chunked" if self._chunked else b"content-length: %d" % int(length)
                parser.feed_data(b"POST / HTTP/1.1\r\n" + line + END)
                self._own_head = False
                self._pairs = []
                self._url = b""
        if not target.startswith(b"/") and target != b"*":
            # The authority of an absolute target takes the place of Host (RFC 9112, 3.2.2).
            authority, target = absolute(target)
            headers["host"] = authority
        path, _, query = target.partition(b"?")
        exchange = Exchange(
            self,
            self._shared.app,
            method.decode("ascii"),
            path.decode("ascii"),
            query,
            pairs,
            headers,
            body,
            old=self._version == "1.0",
        )
        self._exchange = exchange
        self._served = True
        try:
            self._shared.app.serve(exchange)
        except Exception as error:
            logger.exception("a request of %s could not be served", exchange.path[:200])
            exchange.answer(failure("internal_error", f"this host failed: {error}"), NO_CORS)

    def _end_of_message(self) -> None:
        self._message_done = False
        self._in_body = False
        self._tail = b""
        # Trailers.
        self._pairs = []
        exchange = self._exchange
        if exchange is not None and exchange.body is not None:
            exchange.body.end()
            if self._counted:
                # What was collected has gone over to the exchange, and its weight with it.
                body = exchange.body
                self._count(0 if body is None or exchange.weight else body.held)

    def _keep(self, data: bytes) -> None:
        """Leave the rest for later, and the client with what comes behind it."""
        self._rest = data
        self._update_reading()
        if self._count(len(data)):
            return
        if self._exchange is None:
            self._refuse(503)
        else:
            # The request before it is answered, and the connection ends with that.
            self._rest = b""
            self._count(0)
            self._keep_alive = False

    def _go_on_soon(self) -> None:
        """Parse the rest in a turn of its own: an answer must not call what makes the next one."""
        if self._rest and not self._parsing and self._transport is not None:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._closing or not self._rest or self._exchange is not None or not self.writable:
            return
        rest, self._rest = self._rest, b""
        self._count(0)
        self._take(rest)
        self._update_reading()

    # What a body asks for.

    def want_body(self) -> None:
        """Let the body come; a client that waits for leave to send it gets it."""
        if self._continue and not self._received and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._continue = False
        self._update_reading()

    def hold_body(self) -> None:
        """Let it wait."""
        self._update_reading(held=True)

    def _update_reading(self, *, held: bool = False) -> None:
        # A little is read ahead: who reads nothing does not notice that the client left.
        wanted = not held and len(self._rest) < CHUNK
        if wanted is self.reading or self._transport is None:
            return
        self.reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _count(self, size: int) -> bool:
        """So many bytes are held for this connection now; False when all connections hold too many."""
        more, self._counted = size - self._counted, size
        return self._shared.bodies.take(more) or more <= 0

    # Writing.

    def answer(self, response: Response, cors: CorsHeaders) -> None:
        """Send a complete answer."""
        transport = self._transport
        exchange, self._exchange = self._exchange, None
        if transport is None or exchange is None:
            return
        body = response.body
        head = self._head(exchange, response.status, response.headers, cors)
        if response.status in BODYLESS:
            transport.write(head + b"\r\n")
        elif exchange.method == "HEAD":
            transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
        elif len(body) <= CHUNK:
            transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            # A copy of a long body costs more than a second write.
            transport.write(b"%bcontent-length: %d\r\n\r\n" % (head, len(body)))
            transport.write(body)
        self._answered()

    def begin_stream(self, status: int, headers: HeaderList, cors: CorsHeaders) -> None:
        """Send the head of an answer in chunks."""
        exchange = self._exchange
        if self._transport is None or exchange is None:
            return
        head = self._head(exchange, status, headers, cors)
        self._stream_chunked = status not in BODYLESS and exchange.method != "HEAD"
        framing = b"" if status in BODYLESS else b"transfer-encoding: chunked\r\n"
        self._transport.write(head + framing + b"\r\n")

    def stream(self, data: bytes) -> None:
        """Send a chunk."""
        if self._stream_chunked and self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        """The answer is complete."""
        self._exchange = None
        if self._stream_chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
        self._answered()

    def _head(self, exchange: Exchange, status: int, headers: HeaderList, cors: CorsHeaders) -> bytes:
        """The lines of a head up to those of its framing, and whether the client stays after it."""
        # A client that was not told to send its body may do so or not: nobody can read on behind it.
        if self._shared.stopping or (self._in_body and self._continue) or (headers and closes(headers)):
            self._keep_alive = False
        date = self._shared.date()
        return answer_head(status, date, headers, cors, keep_alive=self._keep_alive, old=exchange.old)

    def _answered(self) -> None:
        """An answer is out: the next request, or the end."""
        self.age = 0.0
        if self._counted:
            self._count(len(self._rest))
        if not self._keep_alive or self._shared.stopping:
            self._finish()
            return
        self._continue = False
        # What is left of a body that nobody read is dropped as it comes.
        self._update_reading()
        self._go_on_soon()

    def _refuse(self, status: int) -> None:
        """End a connection on which nobody knows what comes next. The answer is empty."""
        exchange, self._exchange = self._exchange, None
        streaming = exchange is not None and exchange.streaming
        answered = exchange is None and self._in_body
        if exchange is not None:
            exchange.leave()
        if self._transport is None:
            return
        if streaming:
            self._transport.abort()
            return
        if not answered:
            self._transport.write(STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self._in_body = True
        self._finish()

    def _finish(self) -> None:
        """Close after what is written, and after what the client may still be sending (RFC 9112, 9.6)."""
        self._closing = True
        self._rest = b""
        self._count(0)
        transport = self._transport
        if transport is None:
            return
        if self._shared.stopping and not self._in_body:
            transport.close()
            return
        self._update_reading()
        transport.write_eof()
        self._linger = asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    # What the port calls.

    def end_when_idle(self) -> None:
        """The port stops: close, at once or after the answer that is being made."""
        if self._transport is not None and self._exchange is None and not self._closing:
            self._closing = True
            self._transport.close()

    def abort(self) -> None:
        """Close without another word; what is on its way is told by the transport."""
        if self._transport is not None:
            self._transport.abort()

    def check_time(self, seconds: float) -> None:
        """So much time has passed: end a client that owes something for too long."""
        transport = self._transport
        if transport is None:
            return
        self.age += seconds
        limits = self._shared.limits
        late = self.age - limits.silence_s
        if not self.writable:
            # Taken at a snail's pace, an answer is in memory as long as one that is not taken at all.
            taken = self._stuck_at - transport.get_write_buffer_size()
            if late > 0 and taken < late * limits.rate:
                transport.abort()
        elif self._closing:
            return
        elif self._in_body and self._owes_body():
            if late > 0 and self._received < late * limits.rate:
                self._refuse(408)
        elif self._exchange is None:
            if self._fed:
                if late > 0:
                    self._refuse(408)
            elif not self._rest and self.age > (limits.keep_alive_s if self._served else limits.silence_s):
                transport.close()

    def _owes_body(self) -> bool:
        """True while a body comes that no function reads: those have their own time."""
        exchange = self._exchange
        return exchange is None or (exchange.call is None and not exchange.null and not exchange.streaming)
