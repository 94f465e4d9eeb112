"""Counting: an engine that counts calls and events; a host that nobody watches has the plain one.

A call that succeeds pays for one number of its function, and one in TIMED for its duration. Errors are
counted where a caller hears of them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Hashable
from typing import Any

from iii_skill.calls import Call, Outcome, no_reply
from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import Context, Fanout
from iii_skill.engine.functions import NOT_FOUND, Function
from iii_skill.triggers import Subscriber

ERROR, ABANDONED = "error", "abandoned"

KINDS = {NOT_FOUND: "not_found", "TIMEOUT": "timeout", "invocation_stopped": "stopped"}
"""Codes that are told apart; codes of workers are without number, and all of them are `error`."""

STATE = "state::"

BOUNDS_S = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds of the buckets of durations, in seconds."""


class Durations:
    """How long calls took, in buckets."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum += seconds


class CountingFanout(Fanout):
    """Counts what is fired and what is dropped."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.fired = 0
        self.dropped = 0

    def fire(
        self,
        subscriber: Subscriber,
        lane: Hashable,
        payload: bytes,
        condition: str | None = None,
        context: Context | None = None,
    ) -> bool:
        """Call the subscriber's function, and count that."""
        taken = super().fire(subscriber, lane, payload, condition, context)
        if taken:
            self.fired += 1
        else:
            self.dropped += 1
        return taken


class CountingEngine(Engine):
    """Counts calls by function, errors by kind, and how long some calls take."""

    fanout_type = CountingFanout
    fanout: CountingFanout

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counting = True
        self.failed = self.fanout.failed = self._count_failure
        self.timed = self._time
        self.errors = dict.fromkeys((ERROR, *KINDS.values(), ABANDONED), 0)
        self.durations = {"state": Durations(), "host": Durations(), "workers": Durations()}
        """By who served the call; one in TIMED calls of a function is measured."""
        self._gone = {"host": 0, "workers": 0}
        """Calls of functions that are not there any more."""

    def calls(self) -> dict[str, int]:
        """Calls so far, by who served them."""
        found = dict(self._gone)
        for function in self.functions:
            found[_server(function)] += function.calls[0]
        return found

    def state_calls(self) -> dict[str, int]:
        """Calls so far, by function of the state worker."""
        return {
            name: function.calls[0]
            for name, function in self.functions.builtins.items()
            if name.startswith(STATE) and not function.private
        }

    def function_changed(self, function: Function) -> None:
        """A function is there, or is gone: its calls are not forgotten."""
        super().function_changed(function)
        if self.functions.find(function.id, function.namespace) is not function:
            calls = function.calls
            self._gone[_server(function)] += calls[0]
            calls[0] = 0

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more."""
        number = call.invocation_id
        if number is not None and any(
            worker.executing.get(number) is call for worker in self.workers.values()
        ):
            self.errors[ABANDONED] += 1
        super().abandon(call)

    def _count_failure(self, code: str) -> None:
        self.errors[KINDS.get(code, ERROR)] += 1

    def _time(self, call: Call) -> None:
        reply, start = call.reply, time.perf_counter()
        if reply is no_reply:
            return
        inside = call.function_id in self.functions.builtins
        kind = "workers" if not inside else "state" if call.function_id.startswith(STATE) else "host"
        durations = self.durations[kind]

        def answered(outcome: Outcome) -> None:
            durations.add(time.perf_counter() - start)
            reply(outcome)

        call.reply = answered


def _server(function: Function) -> str:
    return "host" if function.owner is None else "workers"
