"""Proxy: a TCP proxy between a client and its server that cuts, holds, delays and swallows on demand.

It runs on a thread with an event loop of its own, so a client that blocks its event loop does not stop it.
Its methods may be called from any thread and have taken effect when they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, cast

CALL_SECONDS = 10.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset instead of an orderly end."""


class Proxy:
    """Listens on 127.0.0.1 and passes every connection on to `host` and `port` until it is told otherwise.

    Use it as a context manager. After `seconds` it cuts and refuses for good, which sets a client free that
    waits without a time-out.
    """

    def __init__(self, host: str, port: int, *, seconds: float | None = None) -> None:
        self.upstream = (host, port)
        self.accepted = 0
        """How many connections clients have made so far."""
        self.requests = 0
        """How many pieces clients have sent so far; a small request is one piece."""
        self.answers = 0
        """How many pieces the server has sent so far."""
        self.swallowed = 0
        """How many of them were swallowed."""
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="iii-proxy", daemon=True)
        self._pairs: set[_Pair] = set()
        self._open: set[_Side] = set()
        self._socket: socket.socket
        self._listening = False
        self._accepting: set[asyncio.Task[None]] = set()
        self._port = 0
        self._paused = False
        self._delay = 0.0
        self._left: int | None = None
        self._ended = False

    @property
    def host(self) -> str:
        """Where clients connect."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """Where clients connect; it stays the same while connections are refused."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._pairs)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._wait(self._listen())
        if self._seconds is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._seconds, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset every connection, as a server that was killed does; of new ones nothing is swallowed."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as while no server listens, until `resume`."""
        self._wait(self._refuse())

    def pause(self) -> None:
        """Pass nothing on in either direction, as a server that was stopped, until `resume`."""
        self._do(self._pause)

    def lose(self) -> None:
        """Let every connection fall silent for ever, as when the way to the server is gone; new ones work."""
        self._do(self._lose)

    def swallow(self, *, after: int = 0) -> None:
        """Requests arrive, answers do not: of each connection only the next `after` pieces of them."""
        self._do(lambda: self._swallow(after))

    def delay(self, seconds: float) -> None:
        """Every answer takes so much longer; 0 ends it."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def resume(self) -> None:
        """Pass everything on again; what was held goes on its way, what was swallowed is gone."""
        self._wait(self._resume())

    def _do(self, work: Callable[[], object]) -> None:
        async def run() -> None:
            work()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    # From here on: on the proxy's own thread.

    async def _listen(self) -> None:
        self._socket = socket.socket()
        # Also while connections of before linger, so that the port stays ours.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((self.host, self._port))
        self._port = self._socket.getsockname()[1]
        self._socket.setblocking(False)
        self._socket.listen(100)
        self._loop.add_reader(self._socket, self._accept)
        self._listening = True

    def _accept(self) -> None:
        """Take the next connection; from here on it is cut and refused with the others."""
        try:
            client, _ = self._socket.accept()
        except OSError:
            return  # It ended before it was taken.
        client.setblocking(False)
        self.accepted += 1
        pair = _Pair(self)
        self._pairs.add(pair)
        task = self._loop.create_task(self._take(pair, client))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _take(self, pair: _Pair, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(lambda: pair.client, client)

    def _cut(self) -> None:
        self._left = None
        for pair in list(self._pairs):
            pair.reset()

    async def _refuse(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._socket)
            self._socket.close()
            # A socket that is bound and does not listen: the port stays ours, connections are refused.
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((self.host, self._port))
        self._cut()

    def _pause(self) -> None:
        self._paused = True
        for pair in self._pairs:
            pair.hold()

    def _lose(self) -> None:
        for pair in self._pairs:
            pair.lost = True

    def _swallow(self, after: int) -> None:
        self._left = after
        for pair in self._pairs:
            pair.left = after

    async def _resume(self) -> None:
        if not self._listening and not self._ended:
            self._socket.close()
            await self._listen()
        self._paused, self._delay, self._left = False, 0.0, None
        for pair in self._pairs:
            pair.left = None
            pair.go_on()

    def _end(self) -> None:
        self._ended = True
        self._ending = self._loop.create_task(self._refuse())

    async def _stop(self) -> None:
        self._ended = True
        await self._refuse()
        self._socket.close()
        # Connections that are just being accepted first (not cancelled: they would not be closed), then
        # whatever is open.
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        if pending:
            await asyncio.wait(pending, timeout=0.2)
        end = self._loop.time() + CALL_SECONDS / 2
        await asyncio.sleep(0)
        while self._open and self._loop.time() < end:
            for side in list(self._open):
                side.abort()
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)


class _Pair:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = _Side(self)
        self.server = _Side(self)
        self.lost = False
        self.left = proxy._left
        self._broken = False
        self._late: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None

    def opened(self, side: _Side) -> None:
        """One of the two is there: after the client's, make the server's."""
        if self._broken:
            side.abort()
            return
        if side is self.client:
            self._connecting = self.proxy._loop.create_task(self._connect())
        if self.proxy._paused:
            self.hold()

    async def _connect(self) -> None:
        host, port = self.proxy.upstream
        try:
            await self.proxy._loop.create_connection(lambda: self.server, host, port)
        except OSError:
            self.reset()

    def received(self, side: _Side, data: bytes) -> None:
        """Pass on a piece, unless a fault has it."""
        if side is self.client:
            self.proxy.requests += 1
            if not self.lost:
                self.server.send(data)
            return
        self.proxy.answers += 1
        if self.left is not None:
            self.left -= 1
        if self.left is not None and self.left < 0:
            self.proxy.swallowed += 1
            return
        if self.lost:
            return
        if self.proxy._delay or self._late:
            self._late.append((self.proxy._loop.time() + self.proxy._delay, data))
            self._send_late()
        else:
            self.client.send(data)

    def _send_late(self) -> None:
        """Send what is due, in order, and come back for the rest."""
        now = self.proxy._loop.time()
        while self._late and (self._late[0][0] <= now or not self.proxy._delay):
            self.client.send(self._late.popleft()[1])
        if self._late and (self._timer is None or self._timer.when() <= now):
            self._timer = self.proxy._loop.call_at(self._late[0][0], self._send_late)

    def hold(self) -> None:
        """Read from neither, so that the system's buffers fill up as they do before a stopped process."""
        for side in (self.client, self.server):
            side.read(False)

    def go_on(self) -> None:
        """Read again from both."""
        self._send_late()
        for side in (self.client, self.server):
            side.read(True)

    def other(self, side: _Side) -> _Side:
        """The other one of the two."""
        return self.server if side is self.client else self.client

    def reset(self) -> None:
        """Break both off, one that is still to be opened then."""
        self._broken = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for side in (self.client, self.server):
            side.abort()
        self.proxy._pairs.discard(self)

    def ended(self, side: _Side) -> None:
        """One of the two ended: so does the other, after what is still on its way to it."""
        if side is self.server and not self.lost:
            for _, data in self._late:
                self.client.send(data)
        if self.lost and side is self.server:
            return  # The client hears nothing of it either.
        other = self.other(side)
        if other.transport is None or other.transport.is_closing():
            self.reset()
        else:
            other.transport.close()
            self.proxy._pairs.discard(self)


class _Side(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self.transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._held = False
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.pair.proxy._open.add(self)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.send(data)
        self.pair.opened(self)

    def data_received(self, data: bytes) -> None:
        self.pair.received(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        self.pair.proxy._open.discard(self)
        self.pair.ended(self)

    def pause_writing(self) -> None:
        self.pair.other(self)._limit(True)

    def resume_writing(self) -> None:
        self.pair.other(self)._limit(False)

    def send(self, data: bytes) -> None:
        """Write it, or keep it until the connection is there."""
        if self.transport is None:
            self._waiting.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def read(self, on: bool) -> None:
        """Read from it, or leave what comes to the system."""
        self._held = not on
        self._apply()

    def _limit(self, full: bool) -> None:
        """Read no more while the other one cannot be written to."""
        self._full = full
        self._apply()

    def _apply(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            if self._held or self._full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def abort(self) -> None:
        """End it with a reset."""
        if self.transport is not None:
            known = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()
