"""Traces: spans of what the host does for a call, joined to the trace of its caller.

A span is kept as a few plain values and becomes OTLP JSON in batches; where the trace is not sampled, a call
costs one look at its `traceparent`. Values of state never become part of a span.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from iii_skill.calls import Call, Failure, Outcome, Reply, no_reply

logger = logging.getLogger(__name__)

Send: TypeAlias = Callable[[bytes, int], None]
"""Takes a frame (`OTLP` and a request of the trace service as JSON) and how many spans it holds."""

BATCH = 256
"""Spans that leave together."""

EVERY_S = 1.0
"""The longest that a span waits for others."""

INTERNAL, SERVER = 1, 2
"""Kinds of OTLP's Span."""

_SCOPE = re.compile(rb'"scope"\s*:\s*"([^"\\\x00-\x1f]{1,200})"')
_LOOKED_AT = 512
"""Bytes of a payload in which its scope is looked for."""

_STATE = "state::"
_WRITES = frozenset(("state::set", "state::update", "state::delete", "state::compare-and-set"))
_OWN = ("engine::", "iii-skill::")
"""Functions that ask about the host: they begin no trace."""

_encode = msgspec.json.Encoder().encode


class Sampler:
    """Which traces are recorded, by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG."""

    def __init__(self, *, by_parent: bool, ratio: float) -> None:
        """`by_parent`: what the caller decided counts, and `ratio` only for traces that begin here."""
        self.by_parent = by_parent
        self.ratio = ratio
        # The last 14 digits of a trace id are random: equal bounds decide alike.
        self._bound = f"{int(ratio * (1 << 56)):014x}" if ratio < 1 else "g"
        self.first_digit = "g" if by_parent else self._bound[0]
        """A trace id whose digit 18 is larger is not taken."""

    def gap(self) -> int:
        """How many traces begin here before the next one that is recorded: drawn once for all of them."""
        if self.ratio >= 1:
            return 0
        if self.ratio <= 0:
            return sys.maxsize
        # With every one recorded by itself with that chance, this is how the gaps are spread.
        return int(min(math.log(1 - random.random()) / math.log1p(-self.ratio), sys.maxsize))

    def takes(self, traceparent: str) -> bool:
        """Whether a call of this trace is recorded."""
        if self.by_parent:
            return traceparent[-1] in "13579bdf"
        return traceparent[21:35] < self._bound


def sampler_of(environment: Mapping[str, str]) -> Sampler | None:
    """What the variables say; None: nothing is recorded. Nonsense is named, and the default counts."""
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    given = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    ratio = 1.0
    if given:
        try:
            ratio = float(given)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            logger.warning("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: all traces are recorded")
            ratio = 1.0
    kind = name.removeprefix("parentbased_")
    by_parent = kind != name
    if kind == "always_off":
        return Sampler(by_parent=True, ratio=0.0) if by_parent else None
    if kind not in ("always_on", "traceidratio"):
        logger.warning(
            "OTEL_TRACES_SAMPLER is '%s', which this host does not know: all traces are recorded", name
        )
        by_parent, kind = True, "always_on"
    return Sampler(by_parent=by_parent, ratio=ratio if kind == "traceidratio" else 1.0)


class Span:
    """One piece of work, from its making to `end`."""

    __slots__ = ("_tracer", "attributes", "kind", "name", "parent_id", "span_id", "start", "trace_id")

    def __init__(self, tracer: Tracer, name: str, kind: int, traceparent: str | None) -> None:
        self._tracer = tracer
        self.name = name
        self.kind = kind
        if traceparent is None:
            self.trace_id = f"{random.getrandbits(128) | 1:032x}"
            self.parent_id = ""
        else:
            self.trace_id, self.parent_id = traceparent[3:35], traceparent[36:52]
        self.span_id = f"{random.getrandbits(64) | 1:016x}"
        self.attributes: list[tuple[str, str | int]] = []
        self.start = time.time_ns()

    @property
    def traceparent(self) -> str:
        """What those that work for this span are given."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def end(self, error: str | None = None) -> None:
        """It is done; `error` is a code."""
        self._tracer.ended(self, self.start, time.time_ns(), error)


class Traced:
    """The reply of a call that has a span: ends it, and answers as the call would have been answered."""

    __slots__ = ("_call", "_given", "_handed", "_reply", "over", "span")

    def __init__(self, span: Span, call: Call) -> None:
        self.span = span
        self._call = call
        self._reply = call.reply
        self._given = call.traceparent
        self._handed = 0
        self.over = False

    def handed_over(self) -> None:
        """The store has the write: what follows until the answer is its commit."""
        self._handed = time.time_ns()

    def __call__(self, outcome: Outcome) -> None:
        """Take the outcome."""
        self.stop(outcome.code if type(outcome) is Failure else None)
        # The caller is told its own context again.
        self._call.traceparent = self._given
        self._reply(outcome)

    def stop(self, error: str | None = None) -> None:
        """The span ends, unless it has: with the answer or without one."""
        if self.over:
            return
        self.over = True
        span = self.span
        if self._handed:
            commit = Span(span._tracer, "commit", INTERNAL, span.traceparent)
            commit.start = self._handed
            commit.end()
        span.end(error)


class Tracer:
    """Begins spans for calls, and hands them on in batches. All methods are called on the event loop."""

    def __init__(
        self, sampler: Sampler, send: Send, *, service: str = "iii-skill", version: str = ""
    ) -> None:
        self.takes = sampler.takes
        self.first_digit = sampler.first_digit
        self._gap = sampler.gap
        self.left = sampler.gap()
        """So many traces that begin here are not recorded before the next one that is."""
        self._send = send
        self._resource = [_attribute("service.name", service), _attribute("telemetry.sdk.language", "python")]
        self._scope = {"name": "iii-skill", "version": version}
        self._spans: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def begins(self) -> bool:
        """Whether a trace that begins here now is recorded."""
        if self.left:
            self.left -= 1
            return False
        self.left = self._gap()
        return True

    def route(self, call: Call, invoke: Callable[[Call], None]) -> None:
        """Make a call that `takes` chose with a span around it."""
        function_id = call.function_id
        if call.traceparent is None and function_id.startswith(_OWN):
            call.reply = _Untraced(call.reply)
            invoke(call)
            return
        span = Span(self, f"call {function_id}", INTERNAL, call.traceparent)
        span.attributes.append(("iii.function.id", function_id))
        if function_id.startswith(_STATE):
            span.attributes += (("db.system.name", "iii"), ("db.operation.name", function_id[len(_STATE) :]))
            found = _SCOPE.search(call.data[:_LOOKED_AT])
            if found is not None:
                span.attributes.append(("db.collection.name", found[1].decode("utf-8", "replace")))
        void = call.reply is no_reply
        if void:
            span.attributes.append(("iii.action", "void"))
        traced = Traced(span, call)
        call.traceparent = span.traceparent
        call.reply = traced
        invoke(call)
        if traced.over:
            return
        if void:
            # Nobody waits for it, and workers do not answer it.
            traced.stop()
        elif function_id in _WRITES:
            traced.handed_over()

    def abandoned(self, call: Call) -> None:
        """Nobody waits for the answer of a call any more."""
        if type(call.reply) is Traced:
            call.reply.stop("TIMEOUT")

    def request(self, method: str, route: str, traceparent: str | None) -> Span | None:
        """A span for an HTTP request; None when its trace is not sampled."""
        if not (self.begins() if traceparent is None else self.takes(traceparent)):
            return None
        span = Span(self, f"{method} /{route.lstrip('/')}", SERVER, traceparent)
        span.attributes += (("http.request.method", method), ("http.route", f"/{route.lstrip('/')}"))
        return span

    def ended(self, span: Span, start: int, end: int, error: str | None) -> None:
        """Keep a span that is done."""
        ended: dict[str, Any] = {
            "traceId": span.trace_id,
            "spanId": span.span_id,
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(end),
            "attributes": [_attribute(name, value) for name, value in span.attributes],
        }
        if span.parent_id:
            ended["parentSpanId"] = span.parent_id
        if error is not None:
            ended["status"] = {"code": 2, "message": error}
            ended["attributes"].append(_attribute("error.type", error))
        self._spans.append(ended)
        if len(self._spans) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush)

    def flush(self) -> None:
        """Hand on what is there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._spans:
            return
        spans, self._spans = self._spans, []
        scoped = {"scope": self._scope, "spans": spans}
        request = {"resourceSpans": [{"resource": {"attributes": self._resource}, "scopeSpans": [scoped]}]}
        self._send(b"OTLP" + _encode(request), len(spans))


class _Untraced:
    """The reply of a call that gets no span, so that it is not asked about twice."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __call__(self, outcome: Outcome) -> None:
        self._reply(outcome)


def is_decided(call: Call) -> bool:
    """Whether a span was begun for the call, or will not be."""
    return type(call.reply) in (Traced, _Untraced)


def _attribute(name: str, value: str | int) -> dict[str, Any]:
    if type(value) is int:
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": value}}
