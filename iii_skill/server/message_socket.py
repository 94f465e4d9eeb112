"""MessageSocket: what every WebSocket door does with frames: join them, refuse what breaks the rules, close.

picows reads the frames and refuses those that are wrong by themselves. What it leaves to its listener stands
here, once: reserved bits, the order of fragments, text that is not UTF-8, the size of a whole message, pings,
and both ways of closing (RFC 6455, sections 5 and 7).
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from typing import Any, ClassVar

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.readable import is_utf8
from iii_skill.server.inflow import Inflow, InflowStream
from iii_skill.server.resets import resets

logger = logging.getLogger(__name__)

CLOSE_WAIT_S = 5.0
"""Seconds that the peer gets to take what is on its way, and to answer a close."""

RESTART = 1012
"""The close code after which every SDK reconnects."""

PROTOCOL_ERROR, INVALID_TEXT, MESSAGE_TOO_BIG, INTERNAL_ERROR = 1002, 1007, 1009, 1011

NOT_UTF8 = "a text is not UTF-8"

_utf8 = codecs.getincrementaldecoder("utf-8")
_TEXT = WSMsgType.TEXT
_CONTINUATION = WSMsgType.CONTINUATION


class _ReaderLog:
    """What picows logs, in words of ours: of its errors one line each, its news not at all."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.ERROR

    def error(self, message: str, *arguments: object) -> None:
        reason = arguments[0] if arguments else message
        if isinstance(reason, tuple):
            reason = reason[-1]
        logger.warning("a connection broke the rules of WebSocket and is closed: %s", reason)

    def exception(self, message: str, *arguments: object) -> None:
        logger.exception(message, *arguments)

    def warning(self, message: str, *arguments: object) -> None:
        """Nothing that anybody needs."""

    info = debug = warning

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Nothing that anybody needs."""


READER_LOG: Any = _ReaderLog()
"""Where picows logs."""


class MessageSocket(WSListener):
    """One connection. Subclasses take whole messages and may hold the reading back."""

    limit: ClassVar[int] = MESSAGE_LIMIT
    keeps: ClassVar[bool] = True
    """False where nobody looks at the messages: they are checked, not kept."""

    def __init__(self, inflow: Inflow | None = None) -> None:
        super().__init__()
        self.fed = False
        self.closing = False
        """True once a close frame was sent: whatever still comes in is dropped."""
        self._inflow = inflow
        self._stream: InflowStream | None = None
        self._joining: WSMsgType | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._decoder = _utf8()
        self._held: set[str] = set()
        self._close_timer: asyncio.TimerHandle | None = None
        self._fd = -1

    # What subclasses say.

    def opened(self) -> None:
        """The handshake is done."""

    def text_received(self, text: bytes, last_in_buffer: bool) -> None:
        """A whole text, which is UTF-8; `last_in_buffer`: no further one was received with it."""

    def binary_received(self, data: bytes) -> None:
        """A whole binary message."""

    def ended(self) -> None:
        """The peer has closed: nothing more will come from it."""

    def closed(self) -> None:
        """The connection is gone."""

    @property
    def kept(self) -> int:
        """Bytes that were received and are not done with."""
        return self._size

    @property
    def stalled_by_peer(self) -> bool:
        """True when it is the peer's turn to move a message on."""
        return not self._held

    @property
    def peer(self) -> str:
        """How log lines name the connection."""
        return f"the connection from {self.address}"

    # What they call.

    def hold(self, reason: str) -> None:
        """Do not read on as long as one reason stands."""
        if not self._held and not self.underlying.is_closing():
            self.underlying.pause_reading()
        self._held.add(reason)

    def release(self, reason: str) -> None:
        """One reason not to read has gone."""
        if reason in self._held:
            self._held.discard(reason)
            if not self._held and not self.underlying.is_closing():
                self.underlying.resume_reading()

    def note_kept(self) -> None:
        """`kept` has changed."""
        if self._stream is not None:
            self._stream.note()

    def fail(self, code: int, reason: str) -> None:
        """Close because of what the peer sent; the connection ends when it answers."""
        self._say_close(code, reason.encode())

    def close(self, code: int, reason: str) -> None:
        """Close and end the connection as soon as what was sent is on its way."""
        if not self.closing:
            self._say_close(code, reason.encode())
            self.transport.disconnect()

    def close_empty(self) -> None:
        """Close without a code; the connection ends when the peer has answered, and so read all before it."""
        if not self.closing:
            self._closing()
            self.transport.send(WSMsgType.CLOSE, b"")

    def give_way(self, reason: str) -> None:
        """Say why and end the connection now, whatever is on its way."""
        self._say_close(RESTART, reason.encode())
        self.transport.disconnect(graceful=False)

    @property
    def address(self) -> str:
        """The peer's address, as text."""
        peer = self.underlying.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else "a local peer"

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.underlying = transport.underlying_transport
        self._fd = self.underlying.get_extra_info("socket").fileno()
        resets().watch(self._fd, self.underlying)
        if self._inflow is not None:
            self._stream = self._inflow.watch(self, self.underlying)
        self.opened()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.fed = True
        # A whole text first: nearly every frame is one.
        if (
            frame.msg_type is _TEXT
            and frame.fin
            and self._joining is None
            and not (self.closing or frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            text = frame.get_payload_as_bytes()
            if text.isascii() or is_utf8(text):
                self.text_received(text, frame.last_in_buffer)
            else:
                self.fail(INVALID_TEXT, NOT_UTF8)
        else:
            self._other(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone; nothing of it may hold anything else of it."""
        self.closing = True
        resets().forget(self._fd, self.underlying)
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.end()
        self._parts.clear()
        self.closed()

    def _other(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self.closing:
            # Only the answer to our close counts; it ends the connection.
            if kind == WSMsgType.CLOSE:
                transport.disconnect()
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.fail(PROTOCOL_ERROR, "a reserved bit is set and no extension was agreed on")
        elif kind == WSMsgType.CLOSE:
            self._answer_close(transport, frame)
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            pass
        elif kind == _CONTINUATION and self._joining is None:
            self.fail(PROTOCOL_ERROR, "a continuation of nothing")
        elif kind != _CONTINUATION and self._joining is not None:
            self.fail(PROTOCOL_ERROR, "a new message before the last fragment of the one before")
        else:
            self._collect(frame)

    def _collect(self, frame: WSFrame) -> None:
        """Join fragments, and take whole binary messages."""
        if self._joining is None:
            self._joining = frame.msg_type
            self._decoder.reset()
        self._size += frame.payload_size
        if self._size > self.limit:
            self.fail(MESSAGE_TOO_BIG, f"the limit is {self.limit} bytes")
            return
        part = frame.get_payload_as_bytes()
        if self._joining == _TEXT and not self._fits(part, final=bool(frame.fin)):
            self.fail(INVALID_TEXT, NOT_UTF8)
            return
        if self.keeps:
            self._parts.append(part)
        if not frame.fin:
            self.note_kept()
            return
        message = b"".join(self._parts)
        kind, self._joining = self._joining, None
        self._parts.clear()
        self._size = 0
        if kind == _TEXT:
            self.text_received(message, True)
        else:
            self.binary_received(message)

    def _fits(self, part: bytes, *, final: bool) -> bool:
        """True when the text is UTF-8 up to here: fragments may cut a character in two."""
        try:
            self._decoder.decode(part, final)
        except UnicodeDecodeError:
            return False
        return True

    def _answer_close(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close in kind: the code that came, or none; then end the connection."""
        self.ended()
        if not frame.payload_size:
            self._closing()
            transport.send(WSMsgType.CLOSE, b"")
        else:
            code = int.from_bytes(frame.get_payload_as_bytes()[:2], "big")
            # These stand for "no code came" and "no close came", and never travel themselves.
            fits = 1000 <= code < 5000 and code not in (1005, 1006, 1015)
            self._say_close(code if fits else PROTOCOL_ERROR, b"")
        transport.disconnect()

    def _say_close(self, code: int, reason: bytes) -> None:
        if not self.closing:
            self._closing()
            self.transport.send(WSMsgType.CLOSE, code.to_bytes(2, "big") + reason[:123])

    def _closing(self) -> None:
        """From now on the peer has a limited time, also to read what is on its way to it."""
        self.closing = True
        self._parts.clear()
        self._size = 0
        # A peer whose close is awaited must be read.
        for reason in list(self._held):
            self.release(reason)
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_WAIT_S, self._wait_on, -1)

    def _wait_on(self, unsent_before: int) -> None:
        """Wait on as long as the peer still takes what is on its way to it."""
        unsent = self.underlying.get_write_buffer_size()
        if unsent == 0 or unsent == unsent_before:
            self.underlying.abort()
        else:
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_WAIT_S, self._wait_on, unsent)
