"""The trigger type `http`, and the routes that triggers and observers share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from iii_skill.errors import TriggerRefused
from iii_skill.few_warnings import FewWarnings
from iii_skill.http.patterns import Kind, segments
from iii_skill.http.routes import METHODS, Parameters, Route, RoutePlace, RouteTable
from iii_skill.triggers import Trigger, TriggerProvider

logger = logging.getLogger(__name__)


class HttpTriggers(TriggerProvider):
    """The routes of triggers and observers of all workers. One refused route leaves everything as it was."""

    trigger_type = "http"
    description = "HTTP API trigger"

    def __init__(self) -> None:
        self._table = RouteTable()
        self._routes: dict[str, Route] = {}
        self._warnings = FewWarnings(logger, "routes")

    def register(self, trigger: Trigger) -> None:
        """Serve the route, or move the trigger of that id to it; TriggerRefused leaves all as it was."""
        self.serve(route_of(trigger), _ignored(trigger))

    def unregister(self, trigger: Trigger) -> None:
        """Stop serving the route of that trigger id; unknown ids are fine."""
        self.remove(trigger.id)

    def serve(self, route: Route, ignored: Iterable[str] = ()) -> None:
        """Serve a route in place of the one of its name; TriggerRefused leaves all as it was.

        `ignored`: what of its registration has no effect.
        """
        former = self._routes.get(route.name)
        self._table.check(route, replacing=former)
        if former is not None:
            self._table.remove(former)
        self._routes[route.name] = route
        function_id = route.subscriber.function_id
        for oddity in (*ignored, *_oddities(route)):
            self._warnings.warn(
                f"{oddity} {route.label}", "route %s of %s: %s", route.label, function_id, oddity
            )
        if route.method not in METHODS:
            return
        hidden = self._table.add(route)
        if hidden is not None and hidden.subscriber.function_id != function_id:
            self._warnings.warn(
                route.label,
                "route %s is registered twice: %s serves it now instead of %s, as on the engine",
                route.label,
                function_id,
                hidden.subscriber.function_id,
            )

    def remove(self, name: str) -> None:
        """Stop serving the route of that name; unknown ones are fine."""
        route = self._routes.pop(name, None)
        if route is not None:
            self._table.remove(route)

    def find(self, path: str) -> tuple[RoutePlace | None, Parameters]:
        """The place that a raw request path leads to."""
        return self._table.find(path)

    def __len__(self) -> int:
        return len(self._routes)


def route_of(trigger: Trigger) -> Route:
    """The route that a registration asks for; TriggerRefused without a string `api_path`."""
    config = trigger.settings()
    path = config.get("api_path") if isinstance(config, dict) else None
    if not isinstance(path, str):
        raise TriggerRefused("api_path is required for http triggers")
    condition = config.get("condition_function_id")
    middleware = config.get("middleware_function_ids")
    return Route.of(
        trigger,
        method=_method(config),
        path=path,
        condition_function_id=condition if isinstance(condition, str) else None,
        middleware_function_ids=tuple(name for name in middleware if isinstance(name, str))
        if isinstance(middleware, list)
        else (),
    )


def _method(config: dict[str, Any]) -> str:
    """`http_method` in upper case; anything but a string is GET, as on the engine."""
    method = config.get("http_method")
    return method.upper() if isinstance(method, str) else "GET"


def _ignored(trigger: Trigger) -> Iterator[str]:
    """What of the configuration of a trigger has no effect."""
    config = trigger.settings()
    if config.get("http_method") is not None and not isinstance(config["http_method"], str):
        yield (
            "http_method is no string, so GET is served, as on the engine; "
            "register one trigger for each method"
        )
    elif config.get("http_method") is None and "method" in config:
        yield "`method` is ignored, so GET is served, as on the engine; write `http_method`"


def _oddities(route: Route) -> Iterator[str]:
    """What of a route never happens."""
    for part in segments(route.path):
        if part.kind is not Kind.LITERAL and not part.delivered:
            name = part.text
            yield f"what `{{{name}}}` matches is not in path_params, as on the engine; write `:{name}`"
            break
    if route.method not in METHODS:
        yield f"it never runs: the method {route.method} is not served"
    elif route.method == "OPTIONS":
        yield "it never runs: every OPTIONS request is answered with CORS headers"
    elif not route.path.isascii() or any(blank in route.path for blank in " \t?#"):
        yield (
            "it never runs: raw paths are compared, which never hold blanks, `?`, `#` "
            "or characters beyond ASCII"
        )
