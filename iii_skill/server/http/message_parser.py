"""MessageParser: the bytes of a client as requests, one message at a time.

llhttp reads the bytes. It is never given more than the rest of one message, so nothing behind a request is
looked at before that is answered.
"""

from __future__ import annotations

from collections.abc import Callable

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from iii_skill.http.request import header_map, joined
from iii_skill.server.http.head import absolute, refusal
from iii_skill.server.http.limits import MAX_HEAD, MAX_HEADERS, MAX_URL

END = b"\r\n\r\n"
"""How a head ends, and a chunked body with its trailers."""


class _Refused(Exception):
    """The head of a request is beyond its bounds."""


class MessageParser:
    """Where the client is: within a head, or within the body behind it."""

    __slots__ = (
        "_body",
        "_chunked",
        "_overhead",
        "_own_head",
        "_parser",
        "_remaining",
        "_status",
        "_tail",
        "_url",
        "complete",
        "fed",
        "head_done",
        "headers",
        "in_body",
        "keep_alive",
        "method",
        "offered",
        "pairs",
        "path",
        "query",
        "received",
        "version",
    )

    def __init__(self, body: Callable[[bytes], None]) -> None:
        """`body` is called with each part of a body."""
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._body = body
        self._status = 400
        # The head that is being read.
        self._url = b""
        self.pairs: list[tuple[bytes, bytes]] = []
        self.fed = 0
        """Bytes of a head that is not complete."""
        self._tail = b""
        self.head_done = False
        """True from the end of a head until `begin`."""
        self.offered = False
        self.version = ""
        self.method = self.path = ""
        self.query = b""
        self.keep_alive = True
        self.headers: dict[str, str] = {}
        # The body that is being read.
        self.in_body = False
        self._chunked = False
        self._remaining = 0
        self.received = 0
        """Bytes of the body so far."""
        self._overhead = 0
        self.complete = False
        self._own_head = False

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._url += url
        if len(self._url) > MAX_URL:
            self._status = 414
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: those are counted and left out, whatever they are named."""
        pairs = self.pairs
        if len(pairs) == MAX_HEADERS:
            self._status = 431
            raise _Refused
        pairs.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if not self._own_head:
            self.head_done = True
            parser = self._parser
            assert parser is not None
            self.version = parser.get_http_version()
            self.keep_alive = parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self.received += len(data)
        self._body(data)

    def on_message_complete(self) -> None:
        """The body is complete, or there is none."""
        self.complete = True

    # What the connection calls.

    def boundary(self, data: bytes, position: int, size: int) -> int:
        """Where the piece ends that belongs to this message for sure."""
        if self.in_body and not self._chunked:
            return min(size, position + self._remaining)
        tail = self._tail
        if tail:
            # The end may lie across two reads.
            found = (tail + data[position : position + 3]).find(END)
            if found >= 0:
                return position + found + 4 - len(tail)
        found = data.find(END, position)
        return size if found < 0 else found + 4

    def feed(self, piece: bytes) -> int:
        """Read a piece of one message; the status with which it is refused, or 0."""
        parser, received = self._parser, self.received
        assert parser is not None
        try:
            parser.feed_data(piece)
        except HttpParserUpgrade:
            self.offered = True
        except HttpParserError:
            return self._status
        if self.head_done:
            self.fed += len(piece)
        elif not self.in_body:
            self.fed += len(piece)
            self._tail = (self._tail + piece)[-3:]
            if self.fed > MAX_HEAD + len(self._url):
                return 431
        else:
            self._remaining -= len(piece)
            if self._chunked:
                # Chunk sizes, extensions and trailers are of no use to anybody.
                self._overhead = 0 if self.received != received else self._overhead + len(piece)
                self._tail = (self._tail + piece)[-3:]
                if self._overhead > MAX_HEAD:
                    return 431
        return 0

    def begin(self) -> int:
        """A head is complete: find out how long its message is. The status of a refusal, or 0.

        What it says is in `method`, `path`, `query` and `headers` then; `in_body` says whether a body comes.
        """
        self.head_done = False
        size, self.fed = self.fed, 0
        self._tail = b""
        offered, self.offered = self.offered, False
        pairs, target = self.pairs, self._url
        self.headers = headers = header_map(pairs)
        coding = headers.get("transfer-encoding")
        if len(headers) != len(pairs) and coding is not None:
            coding = joined(pairs, b"transfer-encoding")
        length = headers.get("content-length", "0")
        parser = self._parser
        assert parser is not None
        method = parser.get_method()
        if size - len(target) > MAX_HEAD:
            return 431
        refused = refusal(self.version, method, target, coding, length)
        if refused:
            return refused
        if not target.startswith(b"/") and target != b"*":
            # The authority of an absolute target takes the place of Host (RFC 9112, 3.2.2).
            authority, target = absolute(target)
            headers["host"] = authority
        path, _, self.query = target.partition(b"?")
        self.path = path.decode("ascii")
        self.method = method.decode("ascii")
        self.pairs = []
        self._url = b""
        self._chunked = coding is not None
        self._remaining = int(length)
        if self._chunked or self._remaining:
            self.in_body = True
            self.received = self._overhead = 0
            self.complete = False
            if offered:
                self._read_body_anew()
        return 0

    def end(self) -> None:
        """The message is complete, and what comes is the next one."""
        self.complete = self.in_body = False
        self._tail = b""
        # Trailers.
        self.pairs = []

    def close(self) -> None:
        """Let go of everything that holds this."""
        self._parser = None
        self._body = _nobody
        self.pairs = []

    def _read_body_anew(self) -> None:
        """No offer of another protocol is taken, but the parser believes that what follows speaks it.

        So another one reads the body, behind a head of ours that says the same of its length.
        """
        self._own_head = True
        self._parser = parser = HttpRequestParser(self)
        line = b"transfer-encoding: chunked" if self._chunked else b"content-length: %d" % self._remaining
        parser.feed_data(b"POST / HTTP/1.1\r\n" + line + END)
        self._own_head = False
        self.pairs = []
        self._url = b""


def _nobody(_data: bytes) -> None:
    """The client is gone."""
