"""Inflow: how much of unfinished messages is kept over all connections of a port.

A message is known only once it is whole, and may have 64 MB. So only a few connections may be in the middle
of a long one at a time; the others are not read until it is their turn. One that stalls gives way to them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Protocol, cast

logger = logging.getLogger(__name__)

LONG = 256 * 1024
"""Bytes of an unfinished message beyond which its connection needs a turn."""

TURNS = 4
"""Long messages that come in at once: with the 64 MB that one may have, the bound over all connections."""

STALL_S = 10.0
"""Seconds without a byte after which a turn goes to somebody who waits for one."""

_NOTED = 64 * 1024
_GIVEN_BACK = 1024 * 1024


class Inbound(Protocol):
    """A connection that takes messages in."""

    fed: bool
    """Set when a frame was delivered."""

    @property
    def kept(self) -> int:
        """Bytes of fragments, and of what was received and is not done with."""

    @property
    def stalled_by_peer(self) -> bool:
        """True when it is the peer's turn to move the message on."""

    @property
    def peer(self) -> str:
        """How log lines name it."""

    def hold(self, reason: str) -> None:
        """Do not read on."""

    def release(self, reason: str) -> None:
        """Read on, unless there is another reason not to."""

    def give_way(self, reason: str) -> None:
        """End the connection now."""


class Inflow:
    """The turns of one port. Connections in the middle of a long message have one, or wait for one."""

    def __init__(self, *, turns: int = TURNS, long: int = LONG, stall_s: float = STALL_S) -> None:
        self._free = turns
        self._long = long
        self._stall_s = stall_s
        self._turns: dict[Inbound, float] = {}
        """When the connection moved on last."""
        self._waiting: dict[Inbound, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, socket: Inbound, transport: asyncio.Transport) -> InflowStream:
        """Count what the connection keeps from now on."""
        stream = InflowStream(socket, cast(asyncio.BufferedProtocol, transport.get_protocol()), self)
        transport.set_protocol(stream)
        return stream

    def keeps(self, socket: Inbound, size: int) -> None:
        """The connection keeps so many bytes now."""
        if size < self._long:
            self.forget(socket)
        elif socket in self._turns:
            self._turns[socket] = asyncio.get_running_loop().time()
        elif socket not in self._waiting:
            if self._free:
                self._begin(socket)
                return
            self._waiting[socket] = None
            socket.hold("turn")
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._stall_s, self._look)

    def forget(self, socket: Inbound) -> None:
        """The connection keeps nothing long any more, or is gone: the next one has its turn."""
        if self._waiting and socket in self._waiting:
            del self._waiting[socket]
            socket.release("turn")
        if self._turns and self._turns.pop(socket, None) is not None:
            self._free += 1
            if self._waiting:
                following = next(iter(self._waiting))
                del self._waiting[following]
                self._begin(following)
                following.release("turn")

    def _begin(self, socket: Inbound) -> None:
        self._free -= 1
        self._turns[socket] = asyncio.get_running_loop().time()

    def _look(self) -> None:
        """Somebody waits: whoever has let his turn lie gives way."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for socket, moved in list(self._turns.items()):
            if self._waiting and loop.time() - moved >= self._stall_s and socket.stalled_by_peer:
                logger.warning("%s left a long message unfinished while others wait: closed", socket.peer)
                socket.give_way("an unfinished message stood in the way of others")
                self.forget(socket)
        if self._waiting:
            self._timer = loop.call_later(self._stall_s / 4, self._look)


class InflowStream(asyncio.BufferedProtocol):
    """Stands between the transport and the WebSocket reader, and counts what that has not delivered."""

    def __init__(self, socket: Inbound, reader: asyncio.BufferedProtocol, inflow: Inflow) -> None:
        self._socket: Inbound | None = socket
        self._inflow = inflow
        self._partial = 0
        self._noted = False
        self._updated = reader.buffer_updated
        # Taken over as they are: no call of Python lies between.
        self.get_buffer = reader.get_buffer  # type: ignore[method-assign]
        self.connection_lost = reader.connection_lost  # type: ignore[method-assign]
        self.eof_received = reader.eof_received  # type: ignore[method-assign]
        self.pause_writing = reader.pause_writing  # type: ignore[method-assign]
        self.resume_writing = reader.resume_writing  # type: ignore[method-assign]

    def buffer_updated(self, nbytes: int) -> None:
        socket = self._socket
        if socket is None:
            return
        socket.fed = False
        self._updated(nbytes)
        if not socket.fed:
            self._partial += nbytes
            if self._partial > _NOTED:
                self.note()
        elif self._noted or self._partial:
            if self._partial > _GIVEN_BACK:
                _give_back(memoryview(self.get_buffer(-1)))
            self._partial = 0
            self.note()

    def note(self) -> None:
        """Say how much is kept."""
        socket = self._socket
        if socket is not None:
            size = self._partial + socket.kept
            self._noted = size > _NOTED
            self._inflow.keeps(socket, size)

    def end(self) -> None:
        """The connection is gone."""
        if self._socket is not None:
            self._inflow.forget(self._socket)
            self._socket = None


if sys.platform == "linux":

    def _give_back(unused: memoryview) -> None:
        """Let the system have the pages of a read buffer back: the reader keeps its largest one for ever."""
        if len(unused) < _GIVEN_BACK:
            return
        # Late: few hosts ever get a message that long, and it would be a part of every start.
        import ctypes
        import mmap

        madvise = ctypes.CDLL(None, use_errno=True).madvise
        madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        address = ctypes.addressof(ctypes.c_char.from_buffer(unused))
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (address + len(unused) - start) // mmap.PAGESIZE * mmap.PAGESIZE
        madvise(start, size, mmap.MADV_DONTNEED)

else:

    def _give_back(unused: memoryview) -> None:
        """Nothing that every other system has."""
