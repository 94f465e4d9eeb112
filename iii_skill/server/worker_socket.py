"""One worker's socket: between picows, the protocol core and the engine."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator

from iii_skill.engine.dispatch import Dispatcher
from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import Worker
from iii_skill.json_slices import SLICE
from iii_skill.protocol.connection import AT_ONCE, AT_ONCE_BYTES, Connection, Later
from iii_skill.protocol.messages import InvocationResult, InvokeFunction
from iii_skill.readable import MAX_NESTING, Inspected, inspect, is_utf8
from iii_skill.server.frames import long_text_frames, text_frames
from iii_skill.server.inflow import Inflow
from iii_skill.server.message_socket import MessageSocket

logger = logging.getLogger(__name__)

TOTAL_LIMIT = 512 * 1024 * 1024
"""Bytes that all workers of a port together may leave unread."""

SHARE = 4 * 1024 * 1024
"""What each of them may still leave unread when that is reached."""

ONE_TURN = 4 * 1024 * 1024
"""Texts of more bytes than that together leave in the next turn of the loop."""

_ENVELOPE_LEVELS = 2
"""Levels of a message around the value that a call stores."""

_TELEMETRY = (b"OTLP", b"MTRC", b"LOGS")


class Sockets:
    """The open sockets of one port; `empty` is set while there is none."""

    def __init__(self) -> None:
        self._open: set[WorkerSocket] = set()
        self.slow: set[WorkerSocket] = set()
        """Those whose workers have not read all that was written."""
        self.empty = asyncio.Event()
        self.inflow = Inflow()
        self.telemetry: Callable[[bytes, object], None] = _drained
        """What is done with telemetry that comes over the socket of a worker."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[WorkerSocket]:
        return iter(self._open)

    def add(self, socket: WorkerSocket) -> None:
        self._open.add(socket)
        self.empty.clear()

    def discard(self, socket: WorkerSocket) -> None:
        self._open.discard(socket)
        self.slow.discard(socket)
        if not self._open:
            self.empty.set()

    def close(self, code: int, reason: str) -> None:
        for socket in list(self._open):
            socket.close(code, reason)

    @property
    def unread(self) -> int:
        """Bytes that all workers have not read yet."""
        return sum(socket.unread for socket in self.slow)


def _drained(_frame: bytes, _sender: object) -> None:
    """Nobody wants it."""


class WorkerSocket(MessageSocket):
    """One worker's socket: pumps between picows, the protocol core and the engine.

    Messages are worked on in the order in which they came. While the worker does not read, while one of its
    long messages is looked at, and while the answers that are still to come may be large, they wait in
    `_backlog` and the socket is not read.
    """

    def __init__(self, engine: Engine, dispatcher: Dispatcher, sockets: Sockets, *, grace_s: float) -> None:
        super().__init__(sockets.inflow)
        self._engine = engine
        self._invoke = dispatcher.invoke
        self._result = dispatcher.result
        self._handle = dispatcher.handle
        self._handle_long = dispatcher.handle_long
        self._sockets = sockets
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._grace: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._backlog: deque[bytes] | None = None
        self._backlog_bytes = 0
        self._inspecting: asyncio.Task[None] | None = None
        self._unsent: deque[bytes | memoryview | Later] = deque()
        """What the transport has no room for yet; a long text is made when it has."""
        self._unsent_bytes = 0

    # What MessageSocket calls.

    def opened(self) -> None:
        """The worker is there: greet it, and give it the grace to say its namespace."""
        self.connection = Connection()
        self.worker = Worker(
            self.connection,
            wake=self._wake,
            close=self.close,
            room=self._room,
            address=self.address,
        )
        self._sockets.add(self)
        self._engine.connect(self.worker)
        self._grace = self._loop.call_later(self._grace_s, self._release)
        self._flush()

    def text_received(
        self,
        text: bytes,
        last_in_buffer: bool,
        *,
        waited: bool = False,
    ) -> None:
        """Work on a message now, or keep it until its turn comes; `waited`: it has come."""
        if (self._backlog is not None or len(text) > SLICE) and not waited:
            self._keep(text)
            return
        connection, worker = self.connection, self.worker
        worker.receiving = True
        try:
            for message in connection.receive_text(text):
                if type(message) is InvokeFunction and worker.live:
                    # Nearly all messages are calls and answers: theirs is the shortest way.
                    invoke = self._invoke
                    invoke(worker, message)
                elif type(message) is InvocationResult:
                    result = self._result
                    result(worker, message)
                else:
                    self._handle(worker, message)
        except Exception:
            logger.exception("a message of %s could not be handled", worker.label)
        worker.receiving = False
        if connection.warnings:
            self._warn()
        waiting = connection.waiting_bytes
        if last_in_buffer or waiting > AT_ONCE_BYTES:
            self._flush()
        elif waiting and not self._scheduled:
            self._wake(1)
        if worker.waiting > worker.window and self._backlog is None:
            self._begin_backlog()

    def binary_received(self, data: bytes) -> None:
        """Telemetry goes its own way; the rest is JSON."""
        if data.startswith(_TELEMETRY):
            self._sockets.telemetry(data, self)
            return
        if is_utf8(data):
            self.text_received(data, True)
        else:
            logger.warning("%s: %s", self.worker.label, "malformed message: a binary one that is no JSON")

    def closed(self) -> None:
        """The worker is gone."""
        if self._grace is not None:
            self._grace.cancel()
        if self._inspecting is not None:
            self._inspecting.cancel()
            self._inspecting = None
        self._backlog = None
        self._unsent.clear()
        self._sockets.discard(self)
        self._engine.disconnect(self.worker)
        self.worker.let_go()

    def fail(self, code: int, reason: str) -> None:
        """Close because of what the worker sent: it gets nothing more to do."""
        logger.warning("%s is closed: %s", self.worker.label, reason)
        super().fail(code, reason)
        self._engine.disconnect(self.worker)

    def close(self, code: int, reason: str) -> None:
        """Send what is left, then close with a code that makes SDKs reconnect."""
        if not self.closing:
            self._flush()
            self._pump(room=sys.maxsize)
        super().close(code, reason)

    def pause_writing(self) -> None:
        """The worker reads slower than it asks: nothing more of it is worked on until it has caught up."""
        self._sockets.slow.add(self)
        if self._backlog is None:
            self._begin_backlog()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._pump()
        if not self._unsent:
            self._sockets.slow.discard(self)
            self._go_on()

    @property
    def kept(self) -> int:
        """Bytes of fragments and of messages that wait to be worked on."""
        return super().kept + self._backlog_bytes

    @property
    def stalled_by_peer(self) -> bool:
        """True when it is the worker's turn to send, or to read."""
        return self._inspecting is None and (super().stalled_by_peer or self in self._sockets.slow)

    @property
    def peer(self) -> str:
        """How log lines name it."""
        return self.worker.label

    @property
    def unread(self) -> int:
        """Bytes that the worker has not read yet."""
        return self.underlying.get_write_buffer_size() + self._unsent_bytes

    # The backlog.

    def _begin_backlog(self) -> None:
        self._backlog = deque()
        self.hold("backlog")

    def _keep(self, text: bytes) -> None:
        first = self._backlog is None
        if first:
            self._begin_backlog()
        assert self._backlog is not None
        self._backlog.append(text)
        self._backlog_bytes += len(text)
        self.note_kept()
        if first:
            self._go_on()

    def _go_on(self) -> None:
        """Work on what waits, as far as that is possible now, then read on."""
        while self._backlog is not None and self._inspecting is None and not self.closing:
            if self in self._sockets.slow or self.worker.waiting > self.worker.window:
                return
            if not self._backlog:
                self._backlog = None
                self._backlog_bytes = 0
                self.note_kept()
                self.release("backlog")
                return
            text = self._backlog.popleft()
            if len(text) > SLICE:
                self._inspect(text)
                return
            self._backlog_bytes -= len(text)
            self.text_received(text, not self._backlog, waited=True)

    def _inspect(self, text: bytes) -> None:
        self._inspecting = self._loop.create_task(self._inspected(text))

    async def _inspected(self, text: bytes) -> None:
        """Look at a long message a slice at a time, and work on it in a turn of its own."""
        found = await inspect(text, levels=MAX_NESTING + _ENVELOPE_LEVELS)
        # From here on the outline holds the text, and lets go of it as soon as nobody needs it.
        del text
        self._inspecting = None
        size = len(found.outline.text)
        self._long_received(found)
        found.outline.release()
        self._backlog_bytes -= size
        self.note_kept()
        self._go_on()

    def _long_received(self, found: Inspected) -> None:
        """Work on a long message."""
        connection, worker = self.connection, self.worker
        worker.receiving = True
        try:
            for message, short in connection.receive_long(found):
                if short is None:
                    self._handle(worker, message)
                else:
                    self._handle_long(worker, message, found, short)
        except Exception:
            logger.exception("a message of %s could not be handled", worker.label)
        worker.receiving = False
        self._warn()
        # In a turn of its own: making and sending a long answer takes its time as well.
        self._wake(1)

    def _warn(self) -> None:
        for warning in self.connection.warnings:
            logger.warning("%s: %s", self.worker.label, warning)
        self.connection.warnings.clear()

    def _release(self) -> None:
        held = self.connection.release()
        if held and self._grace_s:
            logger.warning(
                "%s did not register itself within %g s: what it offers was held back until now and is in "
                "the namespace 'default'; III_NAMESPACE_GRACE_MS=0 ends the wait",
                self.worker.label,
                self._grace_s,
            )
        for message in held:
            self._handle(self.worker, message)

    def _wake(self, waiting: int) -> None:
        if self.worker.receiving:
            return
        if waiting >= AT_ONCE or AT_ONCE_BYTES < self.connection.waiting_bytes <= ONE_TURN:
            self._flush()
            if self._backlog is None:
                return
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._scheduled = False
        self._flush()
        if self._backlog is not None:
            self._go_on()

    def _flush(self) -> None:
        connection = self.connection
        if self._unsent or connection.waiting_bytes > AT_ONCE_BYTES:
            size = connection.waiting_bytes
            self._unsent += connection.unmade_texts()
            self._unsent_bytes += size
            self._pump()
            return
        texts = connection.texts_to_send()
        if texts and not self.closing:
            self.underlying.write(text_frames(texts))

    def _pump(self, room: int = AT_ONCE_BYTES) -> None:
        """Hand on as much of what is unsent as the transport has room for."""
        unsent = self._unsent
        while unsent and not self.closing and self.underlying.get_write_buffer_size() < room:
            part = unsent.popleft()
            if isinstance(part, memoryview):
                self._unsent_bytes -= len(part)
                self.underlying.write(part)
                continue
            text = part if isinstance(part, bytes) else part()
            self._unsent_bytes -= len(text)
            if len(text) < 65536:
                self.underlying.write(text_frames((text,)))
                continue
            for piece in reversed(long_text_frames(text)):
                view = memoryview(piece)
                self._unsent_bytes += len(view)
                unsent.appendleft(view)
        if not unsent:
            self._unsent_bytes = 0

    def _room(self, size: int, limit: int) -> bool:
        """False when so many bytes more are too many for this worker, or for all of them together."""
        waiting = self.connection.waiting_bytes
        if waiting + size <= AT_ONCE_BYTES and self not in self._sockets.slow:
            # The transport has room, and says so as soon as it has not.
            return True
        unread = self.unread + waiting
        if unread + size <= SHARE:
            return True
        return unread <= limit and (self._sockets.unread <= TOTAL_LIMIT)
