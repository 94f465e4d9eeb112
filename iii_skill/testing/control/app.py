"""ControlApp: the requests of a control port, from the token to the answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from msgspec import UNSET

from iii_skill.errors import IiiSkillError
from iii_skill.http.cors import NO_CORS
from iii_skill.http.request import joined
from iii_skill.http.response import Response
from iii_skill.readable import inspect
from iii_skill.server.guard import Guard
from iii_skill.server.http.body import Body
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import MEBIBYTE, HttpLimits
from iii_skill.server.plain_port import PlainApp, PlainPort
from iii_skill.testing.control.engines import Engines, read_request
from iii_skill.testing.control.refusals import VerbRefused, not_so

logger = logging.getLogger(__name__)

LIMITS = HttpLimits(
    max_connections=512,
    max_body_bytes=128 * MEBIBYTE,
    max_bodies_bytes=512 * MEBIBYTE,
    max_unread_bytes=1024 * MEBIBYTE,
)
MAX_LEVELS = 1000
"""Of nesting in a request; what an engine takes of it is less."""

HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class ControlApp(PlainApp):
    """Requests of different connections are answered side by side; those that wait end with their asker."""

    def __init__(self, engines: Engines, token: str) -> None:
        self._engines = engines
        self._guard = Guard(token=token)
        self.port = PlainPort(self, LIMITS, option="--control")
        self._running: dict[Exchange, tuple[asyncio.Task[None], bool]] = {}

    def serve(self, exchange: Exchange) -> None:
        exchange.cors = NO_CORS
        try:
            self._check(exchange)
        except VerbRefused as refused:
            self._refuse(exchange, refused)
            return
        body = exchange.body
        if body is None:
            self._begin(exchange, b"")
        else:
            body.collect(LIMITS.max_body_bytes, lambda: self._collected(exchange, body))

    def left(self, exchange: Exchange) -> None:
        """Nobody waits for the answer any more; what does not wait itself is done all the same."""
        task, waits = self._running.get(exchange, (None, False))
        if task is not None and waits:
            task.cancel()
        self.over(exchange)

    def over(self, exchange: Exchange) -> None:
        """The answer is out, or nobody waits for it."""
        weight, exchange.weight = exchange.weight, 0
        self.port.hold(-weight)

    def stop(self) -> None:
        """Answer nothing any more."""
        for task, _ in self._running.values():
            task.cancel()
        self.port.stop()

    def _check(self, exchange: Exchange) -> None:
        headers = exchange.headers
        refusal = self._guard.refusal(
            joined(exchange.pairs, b"host"), joined(exchange.pairs, b"origin"), headers
        )
        if refusal is not None:
            raise VerbRefused(403, "FORBIDDEN", refusal)
        if not self._guard.has_token(headers):
            text = "Present the token of the line that says where this port is: Authorization: Bearer TOKEN."
            raise VerbRefused(401, "UNAUTHORIZED", text)
        if exchange.method != "POST":
            raise VerbRefused(405, "METHOD_NOT_ALLOWED", "Every request is a POST with a JSON object.")
        if int(headers.get("content-length", "0")) > LIMITS.max_body_bytes:
            raise _too_large()

    def _collected(self, exchange: Exchange, body: Body) -> None:
        if not body.whole:
            self._refuse(exchange, _too_large())
            return
        raw = body.take()
        exchange.weight = len(raw)
        self.port.hold(exchange.weight)
        exchange.body = None
        self._begin(exchange, raw)

    def _begin(self, exchange: Exchange, raw: bytes) -> None:
        try:
            asked, run, waits = self._engines.asked(exchange.path)
        except VerbRefused as refused:
            self._refuse(exchange, refused)
            return

        async def answered() -> None:
            try:
                self._answer(exchange, 200, {"result": await run(await _read(asked, raw))})
            except VerbRefused as refused:
                self._refuse(exchange, refused)
            except IiiSkillError as error:
                self._refuse(exchange, not_so(error.code, error.message))
            except TimeoutError as error:
                text = str(error) or "The engine did not answer in time."
                self._refuse(exchange, not_so("TIMEOUT", text))
            except Exception as error:
                logger.exception("%s could not be answered", exchange.path[:200])
                self._refuse(exchange, VerbRefused(500, "INTERNAL", f"{type(error).__name__}: {error}"))
            finally:
                del self._running[exchange]

        task = asyncio.get_running_loop().create_task(answered())
        self._running[exchange] = (task, waits)

    def _answer(self, exchange: Exchange, status: int, said: dict[str, Any]) -> None:
        if said.get("result") is UNSET:
            said = {}
        headers = [*HEADERS, (b"allow", b"POST")] if status == 405 else list(HEADERS)
        exchange.answer(Response(status, headers, msgspec.json.encode(said)), NO_CORS)

    def _refuse(self, exchange: Exchange, refused: VerbRefused) -> None:
        error = {"code": refused.code, "message": refused.message}
        self._answer(exchange, refused.status, {"error": error})


async def _read(asked: type[msgspec.Struct], raw: bytes) -> Any:
    if raw:
        found = await inspect(raw, levels=MAX_LEVELS)
        if found.fault is not None:
            raise VerbRefused(400, "BAD_JSON", found.fault)
    return read_request(asked, raw)


def _too_large() -> VerbRefused:
    return VerbRefused(413, "TOO_LARGE", f"A request has at most {LIMITS.max_body_bytes} bytes.")
