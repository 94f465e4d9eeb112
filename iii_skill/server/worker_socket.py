"""One worker's socket: between picows, the protocol core and the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from iii_skill.engine.dispatch import Dispatcher
from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import MESSAGE_LIMIT, Worker
from iii_skill.protocol.connection import Connection
from iii_skill.server.frames import AT_ONCE, text_frames

logger = logging.getLogger(__name__)

_TEXT = WSMsgType.TEXT
_TELEMETRY = (b"OTLP", b"MTRC", b"LOGS")


class Sockets:
    """The open sockets of one port; `empty` is set while there is none."""

    def __init__(self) -> None:
        self._open: set[WorkerSocket] = set()
        self.empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[WorkerSocket]:
        return iter(self._open)

    def add(self, socket: WorkerSocket) -> None:
        """A socket opened."""
        self._open.add(socket)
        self.empty.clear()

    def discard(self, socket: WorkerSocket) -> None:
        """A socket closed."""
        self._open.discard(socket)
        if not self._open:
            self.empty.set()

    def close(self, code: int, reason: str) -> None:
        """Close them all."""
        for socket in list(self._open):
            socket.close(code, reason)


class WorkerSocket(WSListener):
    """One worker's socket: pumps between picows, the protocol core and the engine."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher, sockets: Sockets, *, grace_s: float) -> None:
        super().__init__()
        self._engine = engine
        self._handle = dispatcher.handle
        self._sockets = sockets
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._grace: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._binary = False
        self._processing = False
        self._scheduled = False
        self._closing = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The worker is there: greet it, and give it the grace to say its namespace."""
        self._transport = transport
        self._underlying = transport.underlying_transport
        self.connection = Connection()
        peer = self._underlying.get_extra_info("peername")
        self.worker = Worker(
            self.connection,
            wake=self._wake,
            close=self.close,
            buffered=self._underlying.get_write_buffer_size,
            address=str(peer[0]) if isinstance(peer, tuple) else None,
        )
        self._sockets.add(self)
        self._engine.connect(self.worker)
        self._grace = self._loop.call_later(self._grace_s, self._release)
        self._flush()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one frame; nothing that a worker sends ends another worker's connection."""
        kind = frame.msg_type
        if kind == _TEXT and frame.fin:
            self._process(frame.get_payload_as_bytes(), frame.last_in_buffer)
        elif kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._collect(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The worker is gone."""
        if self._grace is not None:
            self._grace.cancel()
        self._sockets.discard(self)
        self._engine.disconnect(self.worker)

    def pause_writing(self) -> None:
        """The worker reads slower than it asks: take nothing more from it until it has caught up."""
        self._underlying.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._underlying.resume_reading()

    def close(self, code: int, reason: str) -> None:
        """Send what is left, then close with a code that makes SDKs reconnect."""
        if self._closing:
            return
        self._closing = True
        self._flush()
        self._transport.send_close(WSCloseCode(code), reason.encode())
        self._transport.disconnect()

    def _collect(self, frame: WSFrame) -> None:
        """Join fragments and sort binary messages: telemetry is drained, the rest is JSON."""
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._parts.clear()
            self._parts_size = 0
            self._binary = frame.msg_type == WSMsgType.BINARY
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_size += frame.payload_size
        if self._parts_size > MESSAGE_LIMIT:
            logger.warning("%s sent a message over %d bytes", self.worker.label, MESSAGE_LIMIT)
            self.close(WSCloseCode.MESSAGE_TOO_BIG.value, f"the limit is {MESSAGE_LIMIT} bytes")
            return
        if not frame.fin:
            return
        message = b"".join(self._parts)
        self._parts.clear()
        if not (self._binary and message.startswith(_TELEMETRY)):
            self._process(message, last_in_buffer=True)

    def _process(self, text: bytes, last_in_buffer: bool) -> None:
        connection = self.connection
        self._processing = True
        try:
            for message in connection.receive_text(text):
                self._handle(self.worker, message)
        except Exception:
            logger.exception("a message of %s could not be handled", self.worker.label)
        self._processing = False
        if connection.warnings:
            for warning in connection.warnings:
                logger.warning("%s: %s", self.worker.label, warning)
            connection.warnings.clear()
        if last_in_buffer:
            self._flush()
        elif connection.has_texts:
            self._wake(1)

    def _release(self) -> None:
        for message in self.connection.release():
            self._handle(self.worker, message)

    def _wake(self, waiting: int) -> None:
        if self._processing:
            return
        if waiting >= AT_ONCE:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        texts = self.connection.texts_to_send()
        if texts and not self._transport.is_disconnected:
            self._underlying.write(text_frames(texts))
