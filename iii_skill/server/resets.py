"""Resets: ends of connections that the event loop does not tell.

A peer that is killed before it has read everything resets its connection. Where that comes together with
its last bytes, libuv lets the bytes be read and watches the socket no more (`uv__poll_io`): the connection
would look alive until something is written to it. So all sockets are asked in one system call once a second,
and those that have ended are read again: they give their end then.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol
from weakref import WeakKeyDictionary

INTERVAL_S = 1.0


class Readable(Protocol):
    """What is asked of a transport."""

    def is_reading(self) -> bool:
        """False while it is held back, and once it is closed."""

    def pause_reading(self) -> None:
        """Watch the socket no more."""

    def resume_reading(self) -> None:
        """Watch it again, also for what came meanwhile."""


class Resets:
    """The connections of one event loop."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._transports: dict[int, Readable] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, fd: int, transport: Readable) -> None:
        """Look after a connection until it is forgotten."""
        self._transports[fd] = transport
        self._poll.register(fd, 0)  # an error and an end are always told
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._look)

    def forget(self, fd: int, transport: Readable) -> None:
        """The connection is gone. Its number may be that of another one as soon as it is closed."""
        if self._transports.get(fd) is transport:
            del self._transports[fd]
            self._poll.unregister(fd)
        if not self._transports and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._look)
        for fd, _ in self._poll.poll(0):
            transport = self._transports.get(fd)
            if transport is not None and transport.is_reading():
                transport.pause_reading()
                transport.resume_reading()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Resets] = WeakKeyDictionary()


def resets() -> Resets:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _of_loops.get(loop)
    if found is None:
        found = _of_loops[loop] = Resets()
    return found
