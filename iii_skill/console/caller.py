"""Caller: a worker that offers nothing and calls functions, over a connection that is made again."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from iii_skill.calls import result_of
from iii_skill.engine_link import UNREACHED, Link, connect
from iii_skill.errors import InvocationError
from iii_skill.protocol import client
from iii_skill.protocol.unreached import Refused

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0
CALL_S = 30.0


class EngineCaller:
    """Calls functions of a host or an engine; while there is no connection a call fails with a sentence."""

    def __init__(self, url: str, *, name: str, version: str, token: str | None) -> None:
        self.url = url
        self.label = url
        self._name = name
        self._version = version
        self._token = token
        self._link: Link | None = None

    async def connect(self) -> None:
        """Connect once; raises what `engine_link.connect` does."""
        link = await asyncio.wait_for(connect(self, token=self._token), CONNECT_S)
        link.send(client.identify(self._name, self._version, []))
        self._link = link

    async def keep(self) -> None:
        """Connect again whenever the connection is lost, until cancelled."""
        pause = FIRST_PAUSE_S
        while True:
            if self._link is not None:
                await self._link.lost.wait()
                self._link = None
                logger.warning("the connection to %s is lost; trying again", self.url)
            try:
                await self.connect()
            except (*UNREACHED, Refused) as error:
                logger.debug("%s does not answer: %s", self.url, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                logger.warning("connected to %s again", self.url)
                pause = FIRST_PAUSE_S

    def leave(self) -> None:
        if self._link is not None:
            self._link.leave()

    async def call(
        self,
        function_id: str,
        payload: bytes,
        *,
        namespace: str | None = None,
        timeout: float | None = CALL_S,
    ) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""
        link = self._link
        if link is None or link.lost.is_set():
            raise InvocationError(f"{self.url} is away; trying to reach it again.", code="not_connected")
        try:
            return result_of(
                await link.outcome(function_id, payload, namespace=namespace or "default", timeout=timeout)
            )
        except TimeoutError:
            text = f"'{function_id}' did not answer within {timeout:g} s; its outcome is unknown."
            raise InvocationError(text, code="TIMEOUT") from None

    # What the connection calls: nothing is offered, so nothing is called.

    def called(self, *_given: Any) -> None:
        """It offers nothing."""

    delivered = withdrawn = observed = unobserved = called
