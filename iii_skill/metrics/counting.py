"""Counting: an engine that counts calls and events; a host that nobody watches has the plain one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from iii_skill.calls import Call, Failure, Handler, Outcome, no_reply
from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import Context, Fanout
from iii_skill.engine.functions import NOT_FOUND
from iii_skill.triggers import Subscriber

OK, ERROR, VOID, ABANDONED = "ok", "error", "void", "abandoned"

KINDS = {NOT_FOUND: "not_found", "TIMEOUT": "timeout", "invocation_stopped": "stopped"}
"""Codes that are told apart; codes of workers are without number, and all of them are `error`."""

STATE = "state::"


_route = Engine.invoke


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
    """Counts calls by what became of them, and those of the functions of the state worker by function."""

    fanout_type = CountingFanout
    fanout: CountingFanout

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.outcomes = dict.fromkeys((OK, ERROR, *KINDS.values(), VOID, ABANDONED), 0)
        self.state_calls: dict[str, list[int]] = {}
        """By function a list of one number: that is looked up once for each call."""

    def add_function(self, function_id: str, handler: Handler, **options: Any) -> None:
        """Add a function inside the host."""
        if function_id.startswith(STATE) and not options.get("private"):
            self.state_calls[function_id] = [0]
        super().add_function(function_id, handler, **options)

    def invoke(self, call: Call) -> None:
        """Route a call, and count its outcome: the one place where watching costs every call something."""
        cell = self.state_calls.get(call.function_id)
        if cell is not None:
            cell[0] += 1
        reply, outcomes = call.reply, self.outcomes
        if reply is no_reply:
            outcomes["void"] += 1
        else:

            def counted(outcome: Outcome) -> None:
                if type(outcome) is Failure:
                    outcomes[KINDS.get(outcome.code, ERROR)] += 1
                else:
                    outcomes["ok"] += 1
                reply(outcome)

            call.reply = counted
        _route(self, call)

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more."""
        number = call.invocation_id
        if number is not None and any(
            worker.executing.get(number) is call for worker in self.workers.values()
        ):
            self.outcomes[ABANDONED] += 1
        super().abandon(call)
