"""`http::on-request`: an observer of it is a route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from iii_skill.calls import Call, Failure
from iii_skill.errors import TriggerRefused
from iii_skill.filters.filter import Filter
from iii_skill.http.provider import HttpTriggers
from iii_skill.http.routes import METHODS, ObserverGate, Route
from iii_skill.observers.delivery import Delivery
from iii_skill.observers.errors import refused
from iii_skill.observers.observer import Observer
from iii_skill.served import HTTP
from iii_skill.sources import Source
from iii_skill.triggers import Subscriber

ON_REQUEST: Final = "http::on-request"

ARGS_FORMAT: Final = {
    "type": "object",
    "required": ["method", "path"],
    "properties": {
        "method": {"type": "string", "description": "GET, POST, PUT, DELETE, PATCH, HEAD or OPTIONS."},
        "path": {"type": "string", "description": "As `api_path` of a trigger: `/users/:id`."},
        "middleware_function_ids": {"type": "array", "items": {"type": "string"}},
        "public_webhook": {"type": "boolean", "description": "This host has one listener: no difference."},
    },
}


class _Args(msgspec.Struct, frozen=True):
    method: str
    path: str
    middleware_function_ids: list[str] | None = None
    public_webhook: bool | None = None


class _ObserverGate:
    """Before the target: the filter of the observer, and its count of calls."""

    def __init__(self, observer: Observer, delivery: Delivery) -> None:
        self._observer = observer
        self._delivery = delivery

    @property
    def filter(self) -> Filter:
        """Of requests."""
        return self._observer.definition.filter

    def enter(self, call: Call) -> Callable[[], None] | Failure:
        """Make the call one of the observer."""
        return self._delivery.open(self._observer, call)


class HttpSource(Source):
    """Each observer is served as long as it lives; one that is not active answers 503."""

    def __init__(self, triggers: HttpTriggers, delivery: Delivery) -> None:
        super().__init__(
            ON_REQUEST,
            "Called for every request to the route that the args of an observer name",
            worker_name=HTTP,
            args_format=ARGS_FORMAT,
        )
        self._triggers = triggers
        self._delivery = delivery
        self._names: dict[str, str] = {}

    def admit(self, observer: Subscriber, args: Any) -> None:
        """Serve its route; CallerError without method and path, or when another route stands there."""
        assert isinstance(observer, Observer)
        try:
            wanted = msgspec.convert(args, _Args)
        except msgspec.ValidationError as error:
            raise refused("INVALID_ARGS", f"The args of an observer of {ON_REQUEST}: {error}") from None
        method = wanted.method.upper()
        if method not in METHODS:
            text = f"The args of an observer of {ON_REQUEST}: `method` is one of {', '.join(METHODS)}."
            raise refused("INVALID_ARGS", text)
        gate: ObserverGate = _ObserverGate(observer, self._delivery)
        route = Route.of(
            observer,
            method=method,
            path=wanted.path,
            middleware_function_ids=tuple(wanted.middleware_function_ids or ()),
            gate=gate,
        )
        try:
            self._triggers.serve(route)
        except TriggerRefused as error:
            code = "HTTP_ROUTE_CONFLICT" if error.conflict else "INVALID_ARGS"
            raise refused(code, error.message) from None
        self._names[observer.id] = route.name

    def dismiss(self, observer_id: str) -> None:
        """Its route ends with it."""
        name = self._names.pop(observer_id, None)
        if name is not None:
            self._triggers.remove(name)
