"""A backend that connects again when its connection is lost, for work that goes on after a break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import click

from iii_skill.cli.exit_codes import UNREACHABLE
from iii_skill.cli.reach import Backend, Stopped
from iii_skill.errors import InvocationError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


class Resuming:
    """Makes calls that may be made twice; one whose connection is lost is made again on the next one."""

    def __init__(
        self,
        first: Backend,
        connect: Callable[[], contextlib.AbstractAsyncContextManager[Backend]],
        connections: contextlib.AsyncExitStack,
        *,
        patience_s: float | None = None,
    ) -> None:
        """`patience_s`: how long it tries to connect again before it gives up; None: for ever."""
        self.label = first.label
        self._current = first
        self._connect = connect
        self._connections = connections
        self._patience_s = patience_s
        self._again = asyncio.Lock()

    async def call(self, function_id: str, payload: bytes, *, timeout: float | None = 30.0) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""
        while True:
            used = self._current
            try:
                return await used.call(function_id, payload, timeout=timeout)
            except InvocationError as error:
                if error.code != "not_connected":
                    raise
            async with self._again:
                if used is self._current:
                    await self._reconnect()

    async def _reconnect(self) -> None:
        click.echo("the connection is lost; going on when it is back", err=True)
        began, pause = time.monotonic(), FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                self._current = await self._connections.enter_async_context(self._connect())
                return
            except Stopped as error:
                over = self._patience_s is not None and time.monotonic() - began > self._patience_s
                if error.code != UNREACHABLE or over:
                    raise
