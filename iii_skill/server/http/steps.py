"""Steps: what is asked before the function of a route, middleware and condition, and what they decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id
from iii_skill.http import request, response
from iii_skill.http.response import Response
from iii_skill.http.routes import Route
from iii_skill.server.http.complaints import Complaints
from iii_skill.server.http.exchange import Exchange

NOT_MET = Response(
    422,
    [response.JSON_TYPE],
    b'{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}',
)

GoOn: TypeAlias = Callable[[Exchange, Response | None], None]
"""Takes the answer that a step has decided on; None: the next step."""


class Steps:
    """Asks one after the other; an exchange holds the ids of those that are left, the next one last."""

    def __init__(
        self, engine: Engine, middleware: Sequence[str], *, complaints: Complaints, go_on: GoOn
    ) -> None:
        """`middleware` comes before every function, and before the condition of a route."""
        self._engine = engine
        self._middleware = middleware
        self._complaints = complaints
        self._go_on = go_on

    def before(self, route: Route) -> list[str]:
        """The steps of a request to the route."""
        steps = [*self._middleware, *route.middleware_function_ids]
        if route.conditional:
            steps.insert(len(self._middleware), route.condition_function_id or "")
        return steps[::-1]

    def ask(self, exchange: Exchange) -> None:
        """Call the middleware or condition that is next."""
        route, steps = exchange.route, exchange.steps
        assert steps is not None
        after = len(route.middleware_function_ids)
        if _is_condition(exchange, len(steps)):
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

    def settled(self, exchange: Exchange, outcome: Outcome) -> None:
        """The step that was asked has answered."""
        steps = exchange.steps
        assert steps is not None
        condition = _is_condition(exchange, len(steps))
        function_id = steps.pop()
        self._go_on(
            exchange, _condition(outcome) if condition else self._says(exchange, function_id, outcome)
        )

    def _says(self, exchange: Exchange, function_id: str, outcome: Outcome) -> Response | None:
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


def _is_condition(exchange: Exchange, left: int) -> bool:
    route = exchange.route
    return route.conditional and left == len(route.middleware_function_ids) + 1


def _condition(outcome: Outcome) -> Response | None:
    """What a condition decided: None goes on."""
    if type(outcome) is Failure:
        return response.failed(outcome)
    return NOT_MET if type(outcome) is Result and outcome.value == b"false" else None
