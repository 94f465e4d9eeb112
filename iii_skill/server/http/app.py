"""The way of a request: guard -> route -> body -> middleware -> condition -> function -> answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import count
from typing import Any

import msgspec

from iii_skill.calls import STOPPED, Call, Failure, Outcome, Result, trace_context
from iii_skill.config import HttpSettings
from iii_skill.engine.channel import Direction
from iii_skill.engine.channels import Offer, reference
from iii_skill.engine.deadlines import Deadlines
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id, token
from iii_skill.http import request, response
from iii_skill.http.cors import NO_CORS, CorsPolicy
from iii_skill.http.provider import HttpTriggers
from iii_skill.http.request import RequestParts
from iii_skill.http.response import FunctionResponse, Response
from iii_skill.json_slices import SLICE
from iii_skill.readable import inspect
from iii_skill.server.guard import Guard
from iii_skill.server.http.body import Body
from iii_skill.server.http.complaints import Complaints, Failures
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import Budget, HttpLimits

NOT_FOUND = response.problem(404, "NOT_FOUND", "Not Found")
NOT_MET = Response(
    422,
    [response.JSON_TYPE],
    b'{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}',
)
TIMED_OUT = Response(504, [])
UNREAD = response.problem(
    503, "BUSY", "Clients leave more answers unread than this host holds in memory; try again later."
)
LARGE_ANSWER = 64 * 1024
LONG_ANSWER = 8 * 1024 * 1024
"""Longer ones are looked at a slice at a time."""

ENVELOPE_LEVELS = 2
"""Levels of an answer that have to be read: `status_code`, `headers` and `body`, and what they are."""

CALLER = b'{"worker_name":"iii-http"}'
"""Who calls the functions of routes, as they and their observers see it."""

BODY, RESPONSE = "b", "r"
"""The last letter of the id of a request's channels."""


class HttpApp:
    """All requests. `running` holds what waits for functions, with one budget of time for each request."""

    def __init__(
        self,
        engine: Engine,
        triggers: HttpTriggers,
        settings: HttpSettings,
        *,
        guard: Guard,
        limits: HttpLimits,
        bodies: Budget,
        unread: Budget,
    ) -> None:
        self._engine = engine
        self._triggers = triggers
        self._guard = guard
        self._limits = limits
        self._bodies = bodies
        self._unread = unread
        self._cors = CorsPolicy(settings.cors)
        self._middleware = [
            entry.function_id for entry in sorted(settings.middleware, key=lambda entry: entry.priority)
        ]
        timeout_s = settings.default_timeout_ms / 1000
        self._complaints = Complaints(timeout_s)
        self._failures = Failures()
        self.running: Deadlines[Exchange] = Deadlines(timeout_s, self._expired)
        # By serial number: what a function was called for, until its answer is out.
        self._called: dict[int, Exchange] = {}
        self._serials = count(1)
        self._inspections: set[asyncio.Task[None]] = set()
        engine.channels.add_source(self._channel)

    @property
    def in_flight(self) -> int:
        """Requests whose functions run, or whose answers come through their channels."""
        return len(self._called)

    def close(self) -> None:
        """Nobody waits any more."""
        self.running.close()
        for task in self._inspections:
            task.cancel()
        self._engine.channels.remove_source(self._channel)

    def stop(self) -> None:
        """Settle everything that still waits for a function."""
        for exchange in self.running:
            exchange.reply(STOPPED)
            if exchange.client is not None:
                # It waited for its channel, or for a function after the one that was stopped.
                self._answer(exchange, response.failed(STOPPED))

    # The way in.

    def serve(self, exchange: Exchange) -> None:
        """Serve one request; its body may still be on its way."""
        headers = exchange.headers
        host, origin = headers.get("host"), headers.get("origin")
        if len(headers) != len(exchange.pairs):
            host, origin = (
                request.joined(exchange.pairs, b"host"),
                request.joined(exchange.pairs, b"origin"),
            )
        refusal = self._guard.refusal(host, origin, headers)
        if refusal is not None:
            exchange.answer(response.problem(403, "FORBIDDEN", refusal), NO_CORS)
            return
        method = exchange.method
        place, path_params = self._triggers.find(exchange.path)
        if method == "OPTIONS":
            allow = [] if place is None else [(b"allow", place.allow.encode())]
            exchange.answer(Response(200, allow), self._cors.preflight(origin))
            return
        exchange.cors = self._cors.headers(origin)
        route = None if place is None else place.find(method)
        if route is None:
            # A GET route names HEAD in `allow`, and yet HEAD is 404, as on the engine.
            if place is None or (method == "HEAD" and "GET" in place.methods):
                self._answer(exchange, NOT_FOUND)
            else:
                self._answer(exchange, Response(405, [(b"allow", place.allow.encode())]))
            return
        exchange.route = route
        exchange.parts = RequestParts(headers, path_params, exchange.query)
        body = exchange.body
        if body is None or not request.is_json(headers):
            self._start(exchange)
        elif int(headers.get("content-length", "0")) > self._limits.max_body_bytes:
            self._answer(exchange, self._too_large())
        else:
            # The body holds the exchange until it is whole, and lets go of it then.
            body.collect(self._limits.max_body_bytes, lambda: self._collected(exchange, body))

    def _collected(self, exchange: Exchange, body: Body) -> None:
        if not body.whole:
            self._answer(exchange, self._too_large())
            return
        raw = body.take()
        exchange.weight = len(raw)
        self._bodies.take(exchange.weight)
        if len(raw) <= SLICE:
            self._read(exchange, raw, json=request.deliverable(raw))
        else:
            self._begin(self._inspect(exchange, raw))

    def _begin(self, inspection: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(inspection)
        self._inspections.add(task)
        task.add_done_callback(self._inspections.discard)

    async def _inspect(self, exchange: Exchange, raw: bytes) -> None:
        """Read a long body a slice at a time: it holds nobody else up."""
        inspected = await inspect(raw, levels=request.MAX_DEPTH)
        if exchange.client is not None:
            self._read(exchange, raw, json=inspected.fault is None)

    def _read(self, exchange: Exchange, raw: bytes, *, json: bool) -> None:
        if json:
            # The channel reads it out of the payload.
            exchange.parts.body = raw
            exchange.body = None
        else:
            # It arrives as null, and the channel reads it as it is.
            exchange.body = Body.kept(raw)
        self._start(exchange)

    # Through the functions.

    def _start(self, exchange: Exchange) -> None:
        self.running.start(exchange)
        route = exchange.route
        if self._middleware or route.conditional or route.middleware_function_ids:
            steps = [*self._middleware, *route.middleware_function_ids]
            if route.conditional:
                steps.insert(len(self._middleware), route.condition_function_id or "")
            exchange.steps = steps[::-1]
            self._ask(exchange)
        else:
            self._call(exchange)

    def _ask(self, exchange: Exchange) -> None:
        """Call the middleware or condition that is next."""
        route, steps = exchange.route, exchange.steps
        assert steps is not None
        after = len(route.middleware_function_ids)
        if self._is_condition(exchange, len(steps)):
            data = request.condition_payload(route, exchange.parts)
            if route.gate is not None:
                read = {"input": msgspec.json.decode(data)}
                steps.pop()
                self._go_on(exchange, None if route.gate.filter.matches(read) else NOT_MET)
                return
        else:
            data = request.middleware_payload(route, exchange.parts)
        # Global middleware comes out of the configuration, and so out of the default namespace.
        own = len(steps) <= after + route.conditional
        namespace = route.subscriber.namespace if own else None
        exchange.call = Call(steps[-1], data, exchange.reply, namespace, invocation_id=fresh_id())
        self._engine.invoke(exchange.call)

    def _is_condition(self, exchange: Exchange, left: int) -> bool:
        route = exchange.route
        return route.conditional and left == len(route.middleware_function_ids) + 1

    def _call(self, exchange: Exchange) -> None:
        """Call the function of the route."""
        route, headers = exchange.route, exchange.headers
        subscriber = route.subscriber
        exchange.serial = serial = next(self._serials)
        exchange.key = token()
        self._called[serial] = exchange
        call = Call(
            subscriber.function_id,
            request.payload(route, exchange.parts, _references(serial, exchange.key)),
            exchange.reply,
            subscriber.namespace,
            None,
            subscriber.metadata,
            trace_context(headers.get("traceparent")),
            headers.get("baggage"),
            fresh_id(),
            CALLER,
        )
        if exchange.body is None and exchange.weight:
            # One copy of the body is enough: `request_body` reads it where it stands in the payload.
            start = len(request.BODY_FIRST)
            exchange.body = Body.kept(memoryview(call.data)[start : start + exchange.weight])
            exchange.parts.body = b""
        exchange.call = call
        if route.gate is not None:
            entered = route.gate.enter(call)
            if isinstance(entered, Failure):
                exchange.call = None
                self._answer(exchange, response.problem(503, entered.code, entered.message))
                return
            exchange.ended = entered
        self._engine.invoke(call)

    def settled(self, exchange: Exchange, outcome: Outcome) -> None:
        """A middleware, the condition or the function has answered."""
        steps = exchange.steps
        if steps is None:
            value = outcome.value if isinstance(outcome, Result) else None
            if value is not None and len(value) > LONG_ANSWER:
                # It is settled: no channel and no deadline comes before the answer any more.
                self.running.stop(exchange)
                self._called.pop(exchange.serial, None)
                exchange.close_channels()
                self._begin(self._inspect_answer(exchange, value))
            else:
                self._answer(exchange, self._response(exchange, outcome))
            return
        condition = self._is_condition(exchange, len(steps))
        function_id = steps.pop()
        early = _condition(outcome) if condition else self._middleware_says(exchange, function_id, outcome)
        self._go_on(exchange, early)

    def _go_on(self, exchange: Exchange, early: Response | None) -> None:
        """Answer with what a step decided, or take the next one."""
        if early is not None:
            self._answer(exchange, early)
        elif exchange.steps:
            self._ask(exchange)
        else:
            exchange.steps = None
            self._call(exchange)

    def nothing(self, exchange: Exchange) -> None:
        """Null is fine when the function opens `response`, and else a request that hangs."""
        exchange.silence = self._complaints.if_silent(exchange)

    def streams(self, exchange: Exchange) -> None:
        """The answer has begun: it may take as long as it likes."""
        self.running.stop(exchange)

    def left(self, exchange: Exchange) -> None:
        """The client is gone: what was called runs on, and has the same time as with one that stayed."""
        if exchange.call is None or exchange.streaming:
            self.over(exchange)
        else:
            self._called.pop(exchange.serial, None)

    def over(self, exchange: Exchange) -> None:
        """The answer is out, or nobody waits for it."""
        self.running.stop(exchange)
        self._called.pop(exchange.serial, None)
        if exchange.weight:
            self._bodies.give(exchange.weight)
            exchange.weight = 0
        if exchange.ended is not None:
            exchange.ended()
            exchange.ended = None
        call, exchange.call = exchange.call, None
        if call is not None:
            self._engine.abandon(call)

    def _expired(self, exchange: Exchange) -> None:
        if exchange.client is None:
            self.over(exchange)
        else:
            exchange.answer(TIMED_OUT, NO_CORS)

    # The way out.

    def _answer(self, exchange: Exchange, answer: Response) -> None:
        if len(answer.body) > LARGE_ANSWER and self._unread.used + len(answer.body) > self._unread.limit:
            answer = UNREAD
        exchange.answer(answer, exchange.cors)

    def _response(self, exchange: Exchange, outcome: Outcome) -> Response:
        """The response to the outcome of the function."""
        if type(outcome) is Failure:
            self._failures.add(exchange.route, outcome)
            return response.failed(outcome)
        assert isinstance(outcome, Result)
        assert outcome.value is not None
        return self._heard(exchange, response.answer(outcome.value))

    async def _inspect_answer(self, exchange: Exchange, value: bytes) -> None:
        """Find what stands in a long answer without reading all of it in one go."""
        found = await inspect(value)
        if exchange.client is None:
            return
        if found.fault is not None:
            self._answer(exchange, response.failure("invalid_response", found.fault))
            return
        short = found.outline.short(ENVELOPE_LEVELS)
        self._answer(exchange, self._heard(exchange, response.answer(short.text, short.restore)))

    def _heard(self, exchange: Exchange, answered: FunctionResponse) -> Response:
        if answered.complaint is not None:
            self.complain(exchange, answered.complaint)
        return answered.response

    def _middleware_says(self, exchange: Exchange, function_id: str, outcome: Outcome) -> Response | None:
        """What a middleware decided: None goes on."""
        if type(outcome) is Failure:
            return response.failed(outcome)
        assert isinstance(outcome, Result)
        verdict = None if outcome.value is None else response.middleware_response(outcome.value)
        if verdict is None:
            return None
        if verdict.complaint is not None:
            self._complaints.add(exchange.route, function_id, verdict.complaint)
        return verdict.response

    def complain(self, exchange: Exchange, complaint: str) -> None:
        """The function of the route says something that has no effect."""
        route = exchange.route
        self._complaints.add(route, route.subscriber.function_id, complaint)

    def _too_large(self) -> Response:
        return response.problem(
            413,
            "PAYLOAD_TOO_LARGE",
            f"The JSON body is larger than {self._limits.max_body_bytes} bytes. Send it with another content "
            "type and read it from the `request_body` channel, which has no limit.",
        )

    def _channel(self, channel_id: str) -> Offer | None:
        """The channel of a request that waits for its function or is being answered."""
        serial, end = channel_id[:-1], channel_id[-1:]
        exchange = self._called.get(int(serial)) if serial.isdecimal() and len(serial) < 20 else None
        if exchange is None or end not in (BODY, RESPONSE):
            return None
        return Offer(exchange.key, exchange.open_body if end == BODY else exchange.open_response)


def _references(serial: int, key: str) -> bytes:
    """The keys `request_body` and `response` of the payload, encoded."""
    return b',"request_body":%b,"response":%b' % (
        reference(f"{serial}{BODY}", key, Direction.READ),
        reference(f"{serial}{RESPONSE}", key, Direction.WRITE),
    )


def _condition(outcome: Outcome) -> Response | None:
    """What a condition decided: None goes on."""
    if type(outcome) is Failure:
        return response.failed(outcome)
    return NOT_MET if type(outcome) is Result and outcome.value == b"false" else None
