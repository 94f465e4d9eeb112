"""The ASGI callable of the HTTP port: request -> route -> middleware -> condition -> function -> response."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeAlias

from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.config import HttpSettings
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id
from iii_skill.http import request, response
from iii_skill.http.cors import CorsPolicy, Headers
from iii_skill.http.provider import HttpTriggers
from iii_skill.http.request import RequestParts
from iii_skill.http.response import Response
from iii_skill.http.routes import Route
from iii_skill.server.guard import Guard
from iii_skill.server.http_complaints import Complaints
from iii_skill.server.http_exchange import Exchange
from iii_skill.server.http_io import ClientGone, Receive, Send, read_body, send_response, send_stream
from iii_skill.server.http_protocol import CLIENT_GONE
from iii_skill.server.http_waiter import Waiter, Waiters

Scope: TypeAlias = dict[str, Any]

logger = logging.getLogger(__name__)

NOT_FOUND = response.problem(404, "NOT_FOUND", "Not Found")
NOT_MET = Response(
    422,
    [response.JSON_TYPE],
    b'{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}',
)
STOPPED = Failure("invocation_stopped", "Invocation stopped")


class _TimedOut(Exception):
    """The budget of the request is used up."""


class HttpApp:
    """All requests. `running` holds what waits for a function, so that shutting down can settle it."""

    def __init__(
        self,
        engine: Engine,
        triggers: HttpTriggers,
        settings: HttpSettings,
        *,
        guard: Guard,
        max_body_bytes: int,
    ) -> None:
        self._engine = engine
        self._triggers = triggers
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        self._timeout_s = settings.default_timeout_ms / 1000
        self._cors = CorsPolicy(settings.cors)
        self._middleware = tuple(
            entry.function_id for entry in sorted(settings.middleware, key=lambda entry: entry.priority)
        )
        self._complaints = Complaints(self._timeout_s)
        self.running = Waiters()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        pairs = scope["headers"]
        headers = request.header_map(pairs)
        host, origin = headers.get("host"), headers.get("origin")
        if len(headers) != len(pairs):
            host, origin = request.joined(pairs, b"host"), request.joined(pairs, b"origin")
        refusal = self._guard.refusal(host, origin)
        if refusal is not None:
            await send_response(send, response.problem(403, "FORBIDDEN", refusal), [])
            return
        method = scope["method"]
        place, path_params = self._triggers.find(scope["raw_path"].decode("ascii"))
        allow = [] if place is None else [(b"allow", place.allow.encode())]
        if method == "OPTIONS":
            await send_response(send, Response(200, allow), self._cors.preflight(origin))
            return
        cors = self._cors.headers(origin)
        route = None if place is None else place.find(method)
        if route is None:
            # A GET route names HEAD in `allow`, and yet HEAD is 404, as on the engine.
            missing = place is None or (method == "HEAD" and "GET" in place.methods)
            await send_response(send, NOT_FOUND if missing else Response(405, allow), cors)
            return
        try:
            parts = RequestParts(headers, path_params, scope["query_string"])
            await self._serve(route, parts, scope, receive, send, cors)
        except _TimedOut:
            await send_response(send, Response(504, []), [])
        except ClientGone:
            return

    async def _serve(
        self, route: Route, parts: RequestParts, scope: Scope, receive: Receive, send: Send, cors: Headers
    ) -> None:
        headers = parts.headers
        body: bytes | Receive = b""
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            body = receive
            if request.is_json(headers):
                raw = await read_body(headers, receive, self._max_body_bytes)
                if raw is None:
                    await send_response(send, self._too_large(), cors)
                    return
                body = raw
                parts.body = request.json_body(raw)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        if self._middleware or route.condition_function_id is not None or route.middleware_function_ids:
            early = await self._before(route, parts, scope, deadline)
            if early is not None:
                await send_response(send, early, cors)
                return
        exchange = Exchange(loop, self._engine.channels, body)
        try:
            trigger = route.trigger
            call = Call(
                trigger.function_id,
                request.payload(route, parts, exchange.references()),
                exchange.reply,
                trigger.namespace,
                None,
                trigger.metadata,
                request.traceparent(headers),
                headers.get("baggage"),
                fresh_id(),
            )
            self._engine.invoke(call)
            if not exchange.settled:
                if exchange.null:
                    self._complaints.if_silent(route, exchange)
                else:
                    exchange.on_null = lambda: self._complaints.if_silent(route, exchange)
                await self._settle(exchange, call, scope, deadline, loop)
            outcome = exchange.outcome
            if exchange.streaming:
                await send_stream(send, exchange, cors, buffered=scope["http_version"] == "1.0")
            elif outcome is not None:
                await send_response(send, self._answer(route, outcome), cors)
            else:
                raise _TimedOut
        finally:
            exchange.close()

    def _answer(self, route: Route, outcome: Outcome) -> Response:
        """The response to the outcome of the function."""
        if type(outcome) is Failure:
            logger.warning(
                "%s: function %s: %s: %s",
                route.label,
                route.trigger.function_id,
                outcome.code,
                outcome.message,
            )
            return response.failed(outcome)
        assert isinstance(outcome, Result)
        assert outcome.value is not None
        answered = response.answer(outcome.value)
        if answered.complaint is not None:
            self._complaints.add(route, answered.complaint)
        return answered.response

    async def _before(
        self, route: Route, parts: RequestParts, scope: Scope, deadline: float
    ) -> Response | None:
        """Global middleware, condition, route middleware; a response when one of them ends the request."""
        payload = b""
        for function_id in self._middleware:
            payload = payload or request.middleware_payload(route, parts)
            early = _judged(await self._ask(function_id, payload, None, scope, deadline))
            if early is not None:
                return early
        namespace = route.trigger.namespace
        if route.condition_function_id is not None:
            data = request.condition_payload(route, parts)
            outcome = await self._ask(route.condition_function_id, data, namespace, scope, deadline)
            if type(outcome) is Failure:
                return response.failed(outcome)
            if type(outcome) is Result and outcome.value == b"false":
                return NOT_MET
        for function_id in route.middleware_function_ids:
            payload = payload or request.middleware_payload(route, parts)
            early = _judged(await self._ask(function_id, payload, namespace, scope, deadline))
            if early is not None:
                return early
        return None

    async def _ask(
        self, function_id: str, data: bytes, namespace: str | None, scope: Scope, deadline: float
    ) -> Outcome:
        """The outcome of a call before the function itself."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop)
        call = Call(function_id, data, waiter.reply, namespace, invocation_id=fresh_id())
        self._engine.invoke(call)
        if not waiter.settled:
            await self._settle(waiter, call, scope, deadline, loop)
        if waiter.outcome is None:
            raise _TimedOut
        return waiter.outcome

    async def _settle(
        self, waiter: Waiter, call: Call, scope: Scope, deadline: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Wait until the waiter is settled or the time is up; ClientGone when nobody waits any more."""
        scope[CLIENT_GONE] = waiter.leave
        await self.running.wait(waiter, deadline, loop)
        if waiter.gone:
            # The function runs on, and has the same time for it as with a client that stayed.
            loop.call_at(deadline, self._engine.abandon, call)
            raise ClientGone
        if not waiter.settled:
            self._engine.abandon(call)

    def _too_large(self) -> Response:
        return response.problem(
            413,
            "PAYLOAD_TOO_LARGE",
            f"The JSON body is larger than {self._max_body_bytes} bytes. Send it with another content type "
            "and read it from the `request_body` channel, which has no limit.",
        )


def _judged(outcome: Outcome) -> Response | None:
    """What a middleware decided: None goes on."""
    if type(outcome) is Failure:
        return response.failed(outcome)
    assert isinstance(outcome, Result)
    return None if outcome.value is None else response.middleware_response(outcome.value)
