"""LoopWire: a connection to a host or an engine for commands that make calls side by side."""

from __future__ import annotations

import asyncio
from typing import Any

from iii_skill import __version__
from iii_skill.calls import result_of
from iii_skill.cli.plain_wire import OPEN_S, check_size, not_in_time
from iii_skill.engine_link import UNREACHED as UNREACHED
from iii_skill.engine_link import Link, connect
from iii_skill.protocol import client


class LoopWire:
    """An open connection; calls are answered while the event loop runs."""

    link: Link

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = url

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""
        check_size(payload)
        try:
            return result_of(await self.link.outcome(function_id, payload, timeout=timeout))
        except TimeoutError:
            raise not_in_time(function_id, timeout) from None

    def close(self) -> None:
        """Send what is left, and end the connection."""
        self.link.leave()

    def called(self, _link: Any, _message: Any) -> None:
        """It offers nothing, so nothing is called."""

    delivered = withdrawn = observed = unobserved = called


async def open_wire(url: str, token: str | None) -> LoopWire:
    """A connection that the engine has greeted; Refused when waiting mends nothing, else one of UNREACHED."""
    wire: Any = LoopWire(url)
    wire.link = await asyncio.wait_for(connect(wire, token=token), OPEN_S)
    wire.link.send(client.identify("iii-skill-cli", __version__, []))
    opened: LoopWire = wire
    return opened
