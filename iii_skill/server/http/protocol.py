"""One client connection: bytes in, requests to the app in order, answers out.

Nothing behind a request is looked at before that is answered, and a client that does not read its answers
gets no more work done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from iii_skill.http.cors import NO_CORS, CorsHeaders
from iii_skill.http.response import HeaderList, Response, failure, problem
from iii_skill.server.http.body import CHUNK, Body
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.head import BODYLESS, STATUS_LINES, answer_head, closes, write_answer
from iii_skill.server.http.limits import AT_ONCE, LINGER_S
from iii_skill.server.http.message_parser import MessageParser
from iii_skill.server.http.shared import Shared

logger = logging.getLogger(__name__)

BUSY = problem(
    503, "BUSY", "More request bodies are on their way than this host holds in memory; try again later."
)


class HttpConnection(asyncio.Protocol):
    """One client. It is reading a head, or the body of the request that it is serving or has answered."""

    __slots__ = (
        "_closing",
        "_continue",
        "_counted",
        "_exchange",
        "_keep_alive",
        "_linger",
        "_message",
        "_parsing",
        "_rest",
        "_served",
        "_shared",
        "_stream_chunked",
        "_stuck_at",
        "_transport",
        "_unread",
        "age",
        "reading",
        "writable",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._message = MessageParser(self._body)
        self._continue = False
        # What is not parsed yet.
        self._rest = b""
        self._parsing = False
        self.reading = True
        self._counted = 0
        # The answer.
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
        shared = self._shared
        self._transport = cast(asyncio.Transport, transport)
        if len(shared.connections) >= shared.max_connections:
            shared.warnings.warn(
                "", "there are %s HTTP clients: more are hung up on", str(shared.max_connections)
            )
            # Without an answer: it would have to be taken, and this connection watched until it is.
            self.abort()
            return
        shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: tell what is on its way, and let go of everything that holds this."""
        shared = self._shared
        shared.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        self._transport = None
        self._message.close()
        self._closing = True
        self._rest = b""
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

    # Reading.

    def _take(self, data: bytes) -> None:
        """Parse message by message, as far as there is leave to."""
        self._parsing = True
        position, size, served = 0, len(data), 0
        while position < size and not self._closing:
            if not self._message.in_body:
                if self._exchange is not None or not self.writable or served == AT_ONCE:
                    # The request before is not answered, its answer is not taken, or others have their turn.
                    self._keep(data[position:])
                    break
                served += 1
                if data[position] in b"\r\n" and not self._message.fed:
                    # Blank lines may stand before a request; they neither begin it nor keep a client alive.
                    data = data[position:].lstrip(b"\r\n")
                    position, size = 0, len(data)
                    continue
            stop = self._message.boundary(data, position, size)
            piece = data if stop - position == size else data[position:stop]
            position = stop
            self._feed(piece)
        self._parsing = False
        # It stopped after AT_ONCE requests, all of them answered: nothing else will call for the rest.
        if self._rest and self._exchange is None and self.writable:
            self._go_on_soon()

    def _feed(self, piece: bytes) -> None:
        message = self._message
        if not message.in_body and not message.fed:
            # The first bytes of a head: the time that it may take begins.
            self.age = 0.0
        refused = message.feed(piece)
        if refused:
            self._refuse(refused)
            return
        if message.head_done:
            self._begin()
        elif not message.in_body:
            if not self._count(message.fed):
                self._refuse(503)
        else:
            self._within_body()
        if message.complete and not self._closing:
            self._end_of_message()

    def _body(self, data: bytes) -> None:
        """A part of a body."""
        exchange = self._exchange
        if exchange is not None and exchange.body is not None:
            exchange.body.feed(data)

    def _within_body(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.body is not None and not self._count(exchange.body.held):
            if exchange.streaming:
                # A part of the answer is out: it can only be broken off.
                self._refuse(503)
            else:
                self._keep_alive = False
                exchange.answer(BUSY, exchange.cors)

    def _begin(self) -> None:
        """A head is complete: have its request served."""
        message = self._message
        self._keep_alive = message.keep_alive
        pairs = message.pairs
        refused = message.begin()
        if self._counted:
            # The bytes of the head, which are not held any more.
            self._count(0)
        if refused:
            self._refuse(refused)
            return
        headers = message.headers
        body = None
        if message.in_body:
            body = Body(self)
            self._continue = message.version == "1.1" and headers.get("expect", "").lower() == "100-continue"
            self.age = 0.0
        exchange = Exchange(
            self,
            self._shared.app,
            message.method,
            message.path,
            message.query,
            pairs,
            headers,
            body,
            old=message.version == "1.0",
        )
        self._exchange = exchange
        self._served = True
        try:
            self._shared.app.serve(exchange)
        except Exception as error:
            logger.exception("a request of %s could not be served", exchange.path[:200])
            exchange.answer(failure("internal_error", f"this host failed: {error}"), NO_CORS)

    def _end_of_message(self) -> None:
        self._message.end()
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
        if self._continue and not self._message.received and self._transport is not None:
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
        head = self._head(exchange, response.status, response.headers, cors)
        write_answer(transport, head, response, head_only=exchange.method == "HEAD")
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
        if self._stream_chunked and self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self._exchange = None
        if self._stream_chunked and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
        self._answered()

    def _head(self, exchange: Exchange, status: int, headers: HeaderList, cors: CorsHeaders) -> bytes:
        """The lines of a head up to those of its framing, and whether the client stays after it."""
        # A client that was not told to send its body may do so or not: nobody can read on behind it.
        shared = self._shared
        if shared.stopping or (self._continue and self._message.in_body) or (headers and closes(headers)):
            self._keep_alive = False
        date = shared.date()
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
        if self._rest or not self.reading:
            # What is left of a body that nobody read is dropped as it comes.
            self._update_reading()
            self._go_on_soon()

    def _refuse(self, status: int) -> None:
        """End a connection on which nobody knows what comes next. The answer is empty."""
        exchange, self._exchange = self._exchange, None
        streaming = exchange is not None and exchange.streaming
        # Its answer is out already, and what follows in its body cannot be read.
        answered = exchange is None and self._message.in_body
        if exchange is not None:
            exchange.leave()
        if self._transport is None:
            return
        if streaming:
            # An end in order would say that the answer is complete.
            self._transport.abort()
            return
        if not answered:
            self._transport.write(STATUS_LINES[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        # Whatever it was reading, the client may still be sending: `_finish` waits for that.
        self._message.in_body = True
        self._finish()

    def _finish(self) -> None:
        """Close after what is written, and after what the client may still be sending (RFC 9112, 9.6)."""
        self._closing = True
        self._rest = b""
        self._count(0)
        transport = self._transport
        if transport is None:
            return
        if self._shared.stopping and not self._message.in_body:
            # All that it sent was read, so closing costs it no answer.
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
            # `_linger` ends it.
            return
        elif self._message.in_body and self._owes_body():
            if late > 0 and self._message.received < late * limits.rate:
                self._refuse(408)
        elif self._exchange is None:
            if self._message.fed:
                if late > 0:
                    self._refuse(408)
            elif not self._rest and self.age > (limits.keep_alive_s if self._served else limits.silence_s):
                transport.close()

    def _owes_body(self) -> bool:
        """True while a body comes that no function reads: those have their own time."""
        exchange = self._exchange
        return exchange is None or (exchange.call is None and not exchange.null and not exchange.streaming)
