"""The route table: which route takes a method and a raw path, at a cost independent of how many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from iii_skill.calls import Call, Failure
from iii_skill.errors import TriggerRefused
from iii_skill.filters.filter import Filter
from iii_skill.http.patterns import Kind, Segment, normal, segments
from iii_skill.triggers import Subscriber

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")

Parameters: TypeAlias = dict[str, str]

NO_PARAMETERS: Parameters = {}


class ObserverGate(Protocol):
    """What stands before the target of an observer; triggers have none."""

    @property
    def filter(self) -> Filter:
        """Which requests it lets through, in the place of a condition."""

    def enter(self, call: Call) -> Callable[[], None] | Failure:
        """Make the call one of the observer; gives what ends it, or why it is not made."""


class Route(msgspec.Struct, frozen=True):
    """Where an http trigger or an observer is served: `path` is the pattern as it was written."""

    subscriber: Subscriber
    method: str
    path: str
    condition_function_id: str | None = None
    middleware_function_ids: tuple[str, ...] = ()
    gate: ObserverGate | None = None
    direct: bool = False
    """True when its function is called without asking anybody else."""
    place_json: bytes = b""
    trigger_json: bytes = b""

    @classmethod
    def of(
        cls,
        subscriber: Subscriber,
        *,
        method: str,
        path: str,
        condition_function_id: str | None = None,
        middleware_function_ids: tuple[str, ...] = (),
        gate: ObserverGate | None = None,
    ) -> Route:
        """A route with its constant parts of every payload encoded once."""
        path_json = msgspec.json.encode(path)
        method_json = msgspec.json.encode(method)
        return cls(
            subscriber=subscriber,
            method=method,
            path=path,
            condition_function_id=condition_function_id,
            middleware_function_ids=middleware_function_ids,
            gate=gate,
            direct=gate is None and condition_function_id is None and not middleware_function_ids,
            place_json=b',"method":%b,"path":%b,"path_params":' % (method_json, path_json),
            trigger_json=b',"trigger":{"type":"http","path":%b,"method":%b}}' % (path_json, method_json),
        )

    @property
    def name(self) -> str:
        """Unlike every other route; a trigger and an observer may have the same id."""
        return self.subscriber.id if self.gate is None else f"observer {self.subscriber.id}"

    @property
    def conditional(self) -> bool:
        """True when something decides whether the function is called, between the middleware."""
        if self.gate is not None:
            return not self.gate.filter.matches_all
        return self.condition_function_id is not None

    @property
    def label(self) -> str:
        """Method and path, as errors name the route."""
        return f"{self.method} {normal(self.path)}"


class RoutePlace:
    """One structure of segments. Of the routes of a method the last registered one serves."""

    __slots__ = ("allow", "methods", "segments", "serving")

    def __init__(self, parts: tuple[Segment, ...]) -> None:
        self.segments = parts
        # By trigger id, in the order of the registrations.
        self.methods: dict[str, dict[str, Route]] = {}
        self.serving: dict[str, Route] = {}
        """By method, the route that serves it."""
        self.allow = ""

    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in order."""
        return tuple(part.text for part in self.segments if part.kind is not Kind.LITERAL)

    def find(self, method: str) -> Route | None:
        """The route that serves the method."""
        return self.serving.get(method)

    def other_route(self, than: Route | None) -> Route | None:
        """Some route of this place but that one, to name in an error."""
        for routes in self.methods.values():
            for route in reversed(routes.values()):
                if route is not than:
                    return route
        return None

    def changed(self) -> None:
        """Compute what serves, and `allow` anew: every GET route also names HEAD, as the engine does."""
        self.serving = {method: next(reversed(routes.values())) for method, routes in self.methods.items()}
        served = set(self.methods) | ({"HEAD"} if "GET" in self.methods else set())
        self.allow = ",".join(method for method in METHODS if method in served)


class _Node:
    """A step of the tree for paths with parameters."""

    __slots__ = ("literals", "parameter", "place", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.rest: RoutePlace | None = None
        self.place: RoutePlace | None = None

    def empty(self) -> bool:
        return not (self.literals or self.parameter or self.rest or self.place)


class RouteTable:
    """All routes. Literal paths are one dictionary look-up; the others walk a tree of their segments."""

    def __init__(self) -> None:
        self._literal: dict[str, RoutePlace] = {}
        self._root = _Node()
        self._places: dict[tuple[str | Kind, ...], RoutePlace] = {}

    def check(self, route: Route, *, replacing: Route | None = None) -> None:
        """TriggerRefused when the path cannot be served or its parameters are named differently elsewhere.

        `replacing` is the route that makes room for this one.
        """
        parts = segments(route.path)
        place = self._places.get(_structure(parts))
        if place is None:
            return
        names = tuple(part.text for part in parts if part.kind is not Kind.LITERAL)
        if place.names() == names:
            return
        other = place.other_route(replacing)
        if other is not None:
            raise TriggerRefused(
                f"Route '{route.label}' conflicts with already-registered route '{other.label}': "
                "routes with identical structure but different path-parameter names are not supported",
                conflict=True,
            )

    def add(self, route: Route) -> Route | None:
        """Serve the route from now on; gives back the one of the same method and path that it hides."""
        self.check(route)
        parts = segments(route.path)
        structure = _structure(parts)
        place = self._places.get(structure)
        if place is None:
            place = self._places[structure] = RoutePlace(parts)
            self._insert(normal(route.path), place)
        hidden = place.find(route.method)
        place.methods.setdefault(route.method, {})[route.name] = route
        place.changed()
        return hidden

    def remove(self, route: Route) -> None:
        """Stop serving the route; one that it hid serves again."""
        structure = _structure(segments(route.path))
        place = self._places.get(structure)
        routes = {} if place is None else place.methods.get(route.method, {})
        if place is None or routes.get(route.name) is not route:
            return
        del routes[route.name]
        if not routes:
            del place.methods[route.method]
        place.changed()
        if not place.methods:
            del self._places[structure]
            self._forget(normal(route.path), place)

    def find(self, path: str) -> tuple[RoutePlace | None, Parameters]:
        """The place for a raw, undecoded path, with the raw values of its `:name` parameters."""
        place = self._literal.get(path)
        if place is not None:
            return place, NO_PARAMETERS
        if self._root.empty():
            return None, NO_PARAMETERS
        parts = path[1:].split("/")
        place = _walk(self._root, parts, 0)
        if place is None:
            return None, NO_PARAMETERS
        return place, _values(place, parts)

    def _insert(self, path: str, place: RoutePlace) -> None:
        if all(part.kind is Kind.LITERAL for part in place.segments):
            self._literal[path] = place
            return
        node = self._root
        for part in place.segments:
            if part.kind is Kind.REST:
                node.rest = place
                return
            if part.kind is Kind.PARAMETER:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(part.text, _Node())
        node.place = place

    def _forget(self, path: str, place: RoutePlace) -> None:
        if self._literal.get(path) is place:
            del self._literal[path]
            return
        trail: list[tuple[_Node, Segment]] = []
        node = self._root
        for part in place.segments:
            trail.append((node, part))
            if part.kind is Kind.REST:
                node.rest = None
                break
            following = node.parameter if part.kind is Kind.PARAMETER else node.literals.get(part.text)
            assert following is not None
            node = following
        else:
            node.place = None
        for parent, part in reversed(trail):
            if part.kind is Kind.PARAMETER and parent.parameter is not None and parent.parameter.empty():
                parent.parameter = None
            elif part.kind is Kind.LITERAL and parent.literals[part.text].empty():
                del parent.literals[part.text]


def _structure(parts: tuple[Segment, ...]) -> tuple[str | Kind, ...]:
    return tuple(part.text if part.kind is Kind.LITERAL else part.kind for part in parts)


def _walk(node: _Node, parts: list[str], index: int) -> RoutePlace | None:
    """The best place below the node: literal before parameter before rest."""
    if index == len(parts):
        return node.place
    part = parts[index]
    last = index == len(parts) - 1
    following = node.literals.get(part)
    if following is not None:
        place = _walk(following, parts, index + 1)
        if place is not None:
            return place
    if node.parameter is not None and (part or not last):
        place = _walk(node.parameter, parts, index + 1)
        if place is not None:
            return place
    if node.rest is not None and (part or not last):
        return node.rest
    return None


def _values(place: RoutePlace, parts: list[str]) -> Parameters:
    """The engine delivers no parameters at all when one of them is empty."""
    values: Parameters = {}
    for segment, part in zip(place.segments, parts, strict=False):
        if segment.kind is Kind.PARAMETER:
            if not part:
                return NO_PARAMETERS
            if segment.delivered:
                values[segment.text] = part
    return values
