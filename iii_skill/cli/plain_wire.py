"""PlainWire: a connection to a host or an engine for commands that make one call after the other.

It waits on a socket instead of an event loop: such a command ends before asyncio and the WebSocket library
would be imported. `reach` opens it for `ws://`; what makes calls side by side, or TLS, takes `engine_link`.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import os
import socket
import time
import uuid
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Raw

from iii_skill import __version__
from iii_skill.errors import InvocationError
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.protocol.unreached import NO_GREETING, WENT_AWAY, Refused, not_let_in, refused_by
from iii_skill.server.frames import masked_pong, masked_text_frames

UNREACHED = (OSError, ValueError)
"""What `open_wire` raises beside Refused when there is no engine to talk to."""

OPEN_S = 10.0
MAX_HEAD = 16_384
_PIECE = 262_144
_ROOM = 4096
"""What a message has beside the payload: ids and names."""
_ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455, for every server
_CONTINUATION, _TEXT, _CLOSE, _PING = 0x0, 0x1, 0x8, 0x9


class _Error(msgspec.Struct):
    code: str
    message: str


class _Said(msgspec.Struct):
    """What of an engine's message matters to somebody who only calls."""

    type: str
    invocation_id: str | None = None
    result: Raw = Raw()
    error: _Error | None = None


class _Unreadable(ValueError):
    """A text came that no client of an engine can read."""


class _Frame(NamedTuple):
    final: bool
    opcode: int
    body: bytes


_read = msgspec.json.Decoder(_Said).decode


def _said_by(text: bytes) -> _Said:
    try:
        # What a message holds is passed on unread: whether it is UTF-8 must be seen here.
        text.decode()
        return _read(text)
    except UnicodeDecodeError:
        raise _Unreadable("it sends texts that are not UTF-8") from None
    except RecursionError:
        raise _Unreadable("it sends texts that are nested too deeply") from None


def not_in_time(function_id: str, timeout: float | None) -> InvocationError:
    """A call is given up."""
    text = f"'{function_id}' did not answer within {timeout:g} s; its outcome is unknown."
    return InvocationError(text, code="TIMEOUT")


def check_size(payload: bytes) -> None:
    """InvocationError for a payload that no message holds: whoever gets it would end the connection."""
    if len(payload) > MESSAGE_LIMIT - _ROOM:
        text = f"The call has {len(payload):,} bytes; a message holds {MESSAGE_LIMIT:,}. Nothing was sent."
        raise InvocationError(text, code="payload_too_large")


def takes(url: str) -> bool:
    """Whether a plain wire goes there: no TLS, and no login inside the address."""
    return url.startswith("ws://") and "@" not in url


class PlainWire:
    """An open connection; `call` returns when its answer is there, and nothing else runs until then."""

    def __init__(self, url: str, connection: socket.socket, rest: bytes) -> None:
        self.label = url
        self._connection = connection
        self._buffer = bytearray(rest)
        self._until: float | None = None

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""
        check_size(payload)
        self._until = None if timeout is None else time.monotonic() + timeout
        invocation_id = str(uuid.uuid4())
        message = {"function_id": function_id, "data": Raw(payload), "invocation_id": invocation_id}
        try:
            self._send(message | {"namespace": "default"})
            said = self._next()
            while said.type != "invocationresult" or said.invocation_id != invocation_id:
                said = self._next()
        except TimeoutError:
            raise not_in_time(function_id, timeout) from None
        except _Unreadable as error:
            text = f"The engine's answer cannot be read: {error}; the outcome of the call is unknown."
            raise InvocationError(text, code="invocation_stopped") from None
        except (OSError, ValueError):
            code, text = WENT_AWAY
            raise InvocationError(text, code=code) from None
        if said.error is not None:
            raise InvocationError(said.error.message, code=said.error.code)
        return bytes(said.result) or None

    def close(self) -> None:
        """End the connection; all calls have their answers."""
        self._connection.close()

    def greet(self, until: float) -> None:
        """Wait for the engine's greeting, and say who this is."""
        self._until = until
        said = self._next()
        while said.type != "workerregistered":
            if said.type == "error" and said.error is not None:
                raise Refused(refused_by(said.error.code, said.error.message))
            said = self._next()
        who = {"runtime": "iii-skill", "version": __version__, "name": "iii-skill-cli"}
        self._send({"function_id": "engine::workers::register", "data": who, "action": {"type": "void"}})

    def _send(self, fields: dict[str, Any]) -> None:
        text = msgspec.json.encode({"type": "invokefunction", **fields})
        self._connection.settimeout(_left(self._until))
        self._connection.sendall(masked_text_frames([text]))

    def _next(self) -> _Said:
        """The next message that can be read; pings are answered on the way."""
        parts: list[bytes] = []
        size = 0
        while True:
            frame = self._frame(MESSAGE_LIMIT - size)
            if frame.opcode == _PING:
                self._connection.sendall(masked_pong(frame.body))
            elif frame.opcode == _CLOSE:
                raise ConnectionError("it closed the connection")
            elif frame.opcode in (_TEXT, _CONTINUATION):
                parts.append(frame.body)
                size += len(frame.body)
                if frame.final:
                    text, parts, size = b"".join(parts), [], 0
                    with contextlib.suppress(msgspec.DecodeError):
                        return _said_by(text)

    def _frame(self, limit: int) -> _Frame:
        first, second = self._take(2)
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        if first & 0x70 or second & 0x80 or size > (125 if first & 0x08 else limit):
            raise ValueError("it sends no frames of a WebSocket server")
        return _Frame(bool(first & 0x80), first & 0x0F, self._take(size))

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += _received(self._connection, self._until)
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken


def open_wire(url: str, token: str | None, *, within_s: float = OPEN_S) -> PlainWire:
    """A connection that the engine has greeted; Refused when waiting mends nothing, else one of UNREACHED."""
    until = time.monotonic() + within_s
    place = urlsplit(url)
    if place.hostname is None:
        raise ValueError("no host is named")
    # Given as bytes, a name that is ASCII anyway does not have the tables of IDNA imported.
    name: Any = place.hostname.encode() if place.hostname.isascii() else place.hostname
    connection = socket.create_connection((name, place.port or 80), timeout=within_s)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = PlainWire(url, connection, _upgraded(connection, url, place, token, until))
        try:
            wire.greet(until)
        except TimeoutError:
            raise TimeoutError(NO_GREETING) from None
    except BaseException:
        connection.close()
        raise
    return wire


def _upgraded(
    connection: socket.socket, url: str, place: SplitResult, token: str | None, until: float
) -> bytes:
    """Make a WebSocket of it; what the engine has sent behind its answer."""
    key = binascii.b2a_base64(os.urandom(16), newline=False)
    target = (place.path or "/") + (f"?{place.query}" if place.query else "")
    if not (target + place.netloc).isprintable() or " " in target + place.netloc:
        raise ValueError("it has characters that no address has")
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {place.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key.decode()}",
        *([] if token is None else [f"Authorization: Bearer {token}"]),
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = bytearray()
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_HEAD:
            raise ConnectionError("it does not answer as an HTTP server does")
        head += _received(connection, until)
    answer, _, rest = bytes(head).partition(b"\r\n\r\n")
    status, *fields = answer.decode("latin-1").split("\r\n")
    version, _, code = status.partition(" ")
    if not version.startswith("HTTP/1.") or not (code[:3].isascii() and code[:3].isdigit()):
        raise ConnectionError("it does not answer as an HTTP server does")
    if code[:3] != "101":
        raise not_let_in(url, int(code[:3]))
    split = (field.partition(":") for field in fields)
    names = {name.strip().lower(): value.strip() for name, _, value in split}
    wanted = hashlib.sha1(key + _ACCEPT_KEY, usedforsecurity=False).digest()
    if names.get("sec-websocket-accept") != binascii.b2a_base64(wanted, newline=False).decode():
        raise ConnectionError("it does not answer as a WebSocket server does")
    return rest


def _received(connection: socket.socket, until: float | None) -> bytes:
    connection.settimeout(_left(until))
    data = connection.recv(_PIECE)
    if not data:
        raise ConnectionError("it closed the connection")
    return data


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("not in time")
    return left
