"""A port on loopback whose requests go to no functions: what a host tells, or is told, beside its work."""

from __future__ import annotations

import asyncio
import socket

from iii_skill.calls import Call, Outcome
from iii_skill.config import LOOPBACK
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import HttpLimits
from iii_skill.server.http.protocol import HttpConnection
from iii_skill.server.http.shared import Shared
from iii_skill.server.listen import BACKLOG, Listeners, listen


class PlainApp:
    """Answers requests by itself; what exchanges with functions need, it does not."""

    def serve(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def settled(self, exchange: Exchange, outcome: Outcome, call: Call | None) -> None:
        """No function is called."""

    def nothing(self, exchange: Exchange) -> None:
        """No function is called."""

    def streams(self, exchange: Exchange) -> None:
        """No answer comes in parts."""

    def left(self, exchange: Exchange) -> None:
        """The answer is made all the same."""

    def complain(self, exchange: Exchange, complaint: str) -> None:
        """No function is called."""

    def over(self, exchange: Exchange) -> None:
        """Nothing is held for it."""


class PlainPort:
    """The listening port."""

    def __init__(self, app: PlainApp, limits: HttpLimits, *, option: str) -> None:
        """`option` is the one that chooses another port."""
        self._option = option
        self._shared = Shared(limits)
        self._shared.app = app
        self._shared.left = lambda: None
        self._watch: asyncio.TimerHandle | None = None
        self._listeners: Listeners | None = None

    async def start(self, port: int) -> None:
        """Listen; raises PortTaken. Port 0 picks a free one."""
        loop = asyncio.get_running_loop()
        shared = self._shared

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await loop.create_server(lambda: HttpConnection(shared), sock=bound, backlog=BACKLOG)

        self._listeners = await listen(serve, LOOPBACK, port, option=self._option)
        self._look(loop)

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._listeners is not None, "it does not listen yet"
        return f"http://{self._listeners.host}:{self._listeners.port}"

    @property
    def bodies(self) -> int:
        """Bytes of request bodies that are in memory."""
        return self._shared.bodies.used

    def hold(self, size: int) -> None:
        """Count a body that was taken, until it is given up with a negative size."""
        self._shared.bodies.take(size)

    def stop(self) -> None:
        """Take no new connection, and end those that are there."""
        if self._listeners is not None:
            self._listeners.close()
        if self._watch is not None:
            self._watch.cancel()
        self._shared.stopping = True
        for connection in list(self._shared.connections):
            connection.abort()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = self._shared.limits.silence_s / 4
        self._watch = loop.call_later(pause, self._look, loop)
        for connection in list(self._shared.connections):
            connection.check_time(pause)
