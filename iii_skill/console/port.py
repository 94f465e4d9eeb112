"""The listening port of a console, on loopback alone, with a token of its own for each start."""

from __future__ import annotations

import secrets

from iii_skill.console.app import ConsoleApp
from iii_skill.console.source import ConsoleSource
from iii_skill.server.http.limits import MEBIBYTE, HttpLimits
from iii_skill.server.plain_port import PlainPort

LIMITS = HttpLimits(
    max_connections=128,
    max_bodies_bytes=128 * MEBIBYTE,
    max_unread_bytes=128 * MEBIBYTE,
    silence_s=20.0,
    keep_alive_s=120.0,
)
"""A few people with a few pages each, and one stream of changes a page."""


class ConsoleServer:
    """The console of one source."""

    def __init__(self, source: ConsoleSource) -> None:
        self._token = secrets.token_urlsafe(24)
        self._app = ConsoleApp(source, self._token)
        self.port = self._app.port = PlainPort(self._app, LIMITS, option="--console-port")

    async def start(self, port: int) -> None:
        """Listen; raises PortTaken. Port 0 picks a free one."""
        await self.port.start(port)

    @property
    def url(self) -> str:
        """Where people open it; the token stands where browsers send it to nobody."""
        return f"{self.port.url}/#token={self._token}"

    def stop(self) -> None:
        """Take no new connection, and end those that are there."""
        self._app.close()
        self.port.stop()
