"""The way of a request: guard -> route -> body -> middleware -> condition -> function -> answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from typing import Any

from iii_skill.calls import STOPPED, Call, Failure, Outcome, trace_context
from iii_skill.config import HttpSettings
from iii_skill.engine.channels import Offer
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
from iii_skill.server.http.steps import Steps
from iii_skill.traces import Span

NOT_FOUND = response.problem(404, "NOT_FOUND", "Not Found")
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
        self._steps = Steps(engine, self._middleware, complaints=self._complaints, go_on=self._go_on)
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
        if route.direct and not self._middleware:
            self._call(exchange)
        else:
            exchange.steps = self._steps.before(route)
            self._go_on(exchange, None)

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
        tracer = self._engine.tracer
        if tracer is not None:
            span = tracer.request(route.method, route.path, call.traceparent)
            if span is not None:
                call.traceparent = span.traceparent
                exchange.ended = partial(_end, exchange, span)
        if route.gate is not None:
            entered = route.gate.enter(call)
            if isinstance(entered, Failure):
                exchange.call = None
                self._answer(exchange, response.problem(503, entered.code, entered.message))
                return
            exchange.ended = entered if exchange.ended is None else partial(_both, entered, exchange.ended)
        activity = self._engine.fanout.activity
        if activity is not None:
            activity.fired(subscriber.id)
        self._engine.invoke(call)

    def settled(self, exchange: Exchange, outcome: Outcome, call: Call | None) -> None:
        """A middleware, the condition or the function has answered."""
        if type(outcome) is Failure:
            self._engine.failed(outcome.code)
        if exchange.steps is None:
            activity = self._engine.fanout.activity
            if activity is not None and isinstance(outcome, Failure):
                activity.failed(exchange.route.subscriber.id, f"{outcome.code}: {outcome.message}")
            if type(outcome) is Failure:
                self._failures.add(exchange.route, outcome, None if call is None else call.traceparent)
                self._answer(exchange, response.failed(outcome))
                return
            value = outcome.value
            assert value is not None
            if len(value) > LONG_ANSWER:
                # It is settled: no channel and no deadline comes before the answer any more.
                self.running.stop(exchange)
                self._called.pop(exchange.serial, None)
                exchange.close_channels()
                self._begin(self._inspect_answer(exchange, value))
            else:
                self._answer(exchange, self._heard(exchange, response.answer(value)))
        else:
            self._steps.settled(exchange, outcome)

    def _go_on(self, exchange: Exchange, early: Response | None) -> None:
        """Answer with what a step decided, or take the next one."""
        if early is not None:
            self._answer(exchange, early)
        elif exchange.steps:
            self._steps.ask(exchange)
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
    # As `reference` makes them; two calls of it for each request would cost more than all of this.
    return (
        f',"request_body":{{"channel_id":"{serial}{BODY}","access_key":"{key}","direction":"read"}},'
        f'"response":{{"channel_id":"{serial}{RESPONSE}","access_key":"{key}","direction":"write"}}'
    ).encode()


def _end(exchange: Exchange, span: Span) -> None:
    """The request is answered, or its client is gone."""
    span.attributes.append(("http.response.status_code", exchange.status))
    span.end(str(exchange.status) if exchange.status >= 500 else None)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()
