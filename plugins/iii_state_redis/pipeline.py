"""Pipeline: one connection that carries many commands, in order, with one write for many of them.

A pipeline may be given commands before its connection is made: they leave when it is. Each command ends in
exactly one of `reply`, `lost` (the connection broke) or `overdue`; an overdue command keeps its place until
its late reply has been dropped. No byte for `timeout` seconds while something waits breaks the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Protocol

from iii_skill.errors import AdapterUnavailable

from .server_errors import ServerFault

MAX_WAITING = 20_000
MAX_UNSENT = 64 * 1024 * 1024
AT_ONCE = 48
"""Commands that do not wait for the end of the turn: the server works on them while the host goes on."""


class PipelinedCommand(Protocol):
    """A command and what becomes of its reply."""

    command: bytes
    deadline: float
    """When it is overdue, on the clock of the loop; set when it is sent."""

    @property
    def replies(self) -> int:
        """How many replies the command gets; `reply` is called for each."""

    def reply(self, value: Any) -> None:
        """The server's answer, a ServerFault included."""

    def refused(self, error: AdapterUnavailable) -> None:
        """It never left."""

    def lost(self, reason: str) -> None:
        """It left, and the connection broke before its reply."""

    def overdue(self, seconds: float) -> None:
        """It left, and no reply has come in time; may be called more than once."""


class Pipeline(asyncio.Protocol):
    """Commands over one connection."""

    def __init__(self, timeout: float, on_fault: Callable[[Pipeline, ServerFault], None]) -> None:
        import hiredis

        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._on_fault = on_fault
        self._reader = hiredis.Reader(replyError=ServerFault)
        self._waiting: deque[PipelinedCommand] = deque()
        self._out: list[bytes] = []
        self._scheduled = False
        self._early = 0
        """Bytes that wait for the connection."""
        self._deadline = 0.0
        """The one of all command that leave together."""
        self._transport: asyncio.Transport | None = None
        self._keep: Any = None
        self._socket: int | None = None
        self._heard = 0.0
        self._watch_handle: asyncio.TimerHandle | None = None
        self._ended = False
        self._retired = False
        self._reason = "the connection was closed"
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done when nothing can be sent any more; the result says why."""
        self._closed: asyncio.Future[None] = self._loop.create_future()

    def start(self, transport: asyncio.Transport, keep: Any) -> None:
        """Take over a connection that is ready for commands; `keep` must live as long as it."""
        self._keep = keep
        transport.set_protocol(self)
        self._transport = transport
        if transport.get_extra_info("sslcontext") is None:
            # A descriptor of our own: nobody else can close it, and its number is no other connection's.
            self._socket = os.dup(transport.get_extra_info("socket").fileno())
        self._heard = self._loop.time()
        self._watch_handle = self._loop.call_later(self._timeout / 20, self._watch)
        self._flush()

    def send(self, command: PipelinedCommand) -> None:
        """Queue the command; it leaves when AT_ONCE are queued, or at the end of this turn of the loop."""
        # Nothing waits without bound: not for a server that answers slowly, not for one that does not read.
        if self._ended:
            command.refused(AdapterUnavailable(f"Redis cannot be used now: {self._reason}."))
            return
        if len(self._waiting) >= MAX_WAITING:
            command.refused(AdapterUnavailable(f"{MAX_WAITING} calls wait for Redis already; try again."))
            return
        if self._transport is None:
            self._early += len(command.command)
            if self._early > MAX_UNSENT:
                command.refused(AdapterUnavailable("Redis is not connected yet, and much waits; try again."))
                return
        if not self._scheduled:
            if self._transport is not None and self._transport.get_write_buffer_size() > MAX_UNSENT:
                command.refused(AdapterUnavailable("Redis does not take what was sent already; try again."))
                return
            self._scheduled = True
            self._loop.call_soon(self._flush)
            self._deadline = self._loop.time() + self._timeout
        command.deadline = self._deadline
        self._waiting.append(command)
        if command.replies != 1:
            # It stands in the queue once for each reply.
            self._waiting.extend([command] * (command.replies - 1))
        self._out.append(command.command)
        # Enough for one write: the server works on these while the host goes on.
        if len(self._out) >= AT_ONCE and self._transport is not None:
            self._write(self._transport)

    def _flush(self) -> None:
        self._scheduled = False
        if self._transport is not None and self._out:
            self._write(self._transport)

    def _write(self, transport: asyncio.Transport) -> None:
        """Hand over what is queued, now: a transport of uvloop would wait for the end of the turn."""
        data = b"".join(self._out)
        self._out.clear()
        sent = 0
        # Only past an empty buffer: what the transport still holds must go first.
        if self._socket is not None and not transport.get_write_buffer_size():
            with contextlib.suppress(OSError):  # The transport will meet it too, and knows what to do.
                sent = os.write(self._socket, data)
        if sent < len(data):
            transport.write(data[sent:] if sent else data)

    def data_received(self, data: bytes) -> None:
        """Give each complete reply to the command whose turn it is."""
        reader = self._reader
        reader.feed(data)
        self._heard = self._loop.time()
        waiting = self._waiting
        try:
            while (value := reader.gets()) is not False:
                if not waiting:
                    # Out of step: from here on each reply would go to the wrong command.
                    raise ValueError("a reply that nothing asked for")
                if type(value) is ServerFault:
                    self._on_fault(self, value)
                waiting.popleft().reply(value)
        except Exception as error:
            self.abort(f"what came was no Redis reply ({error})")
        if self._retired and not waiting:
            self.abort(self._reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Every command that waits is told; nobody knows what the server did with them."""
        self._end(f"the connection broke ({exc})" if exc else self._reason)
        if not self._closed.done():
            self._closed.set_result(None)

    def eof_received(self) -> bool:
        """The server closed it."""
        self._reason = "Redis closed the connection"
        return False

    def retire(self, reason: str) -> None:
        """Take nothing new; close when the last reply is there."""
        self._reason = reason
        self._retired = self._ended = True
        if not self.lost.done():
            self.lost.set_result(reason)
        # Otherwise the last reply closes it.
        if not self._waiting:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    def abandon(self, error: AdapterUnavailable) -> None:
        """The connection could not be made: nothing of what waits has left."""
        waiting, self._waiting = self._waiting, deque()
        self._out.clear()
        for command in waiting:
            command.refused(error)
        self._end(error.message)

    async def drained(self, *, quiet: float) -> int:
        """Wait until the connection of a retired pipeline is closed, and close it when no byte has come for
        `quiet` seconds; gives how many commands were left then."""
        left = 0
        self._heard = max(self._heard, self._loop.time())
        while self._transport is not None and not self._closed.done():
            rest = self._heard + quiet - self._loop.time()
            if rest <= 0 and not left:
                left = len(self._waiting)
                self.abort(self._reason)
            await asyncio.wait([self._closed], timeout=max(rest, 0.0) or quiet)
        return left

    def _end(self, reason: str) -> None:
        self._ended = True
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None
        if self._watch_handle is not None:
            self._watch_handle.cancel()
        if not self.lost.done():
            self.lost.set_result(reason)
        waiting, self._waiting = self._waiting, deque()
        for command in waiting:
            command.lost(reason)

    def _watch(self) -> None:
        now = self._loop.time()
        # Whoever is told may ask again at once, so the queue is not walked meanwhile.
        for command in list(takewhile(lambda command: command.deadline <= now, self._waiting)):
            command.overdue(self._timeout)
        if self._waiting and self._waiting[0].deadline <= now and now - self._heard >= self._timeout:
            self.abort(f"no byte came for {self._timeout:g} s")
            return
        self._watch_handle = self._loop.call_later(self._timeout / 20, self._watch)
