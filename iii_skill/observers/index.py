"""ObserverIndex: every observer by its id, its owner, its source and its target."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from iii_skill.engine.functions import Function
from iii_skill.filters.index import FilterIndex
from iii_skill.observers.definition import Definition
from iii_skill.observers.errors import refused
from iii_skill.observers.observer import Observer

MOST_OBSERVERS: Final = 10_000
"""Of one worker, and of one function."""


class Watched:
    """The observers of one function, whether it is there or not."""

    __slots__ = ("active", "function", "observers")

    def __init__(self, function: Function | None) -> None:
        self.function = function
        self.observers: dict[str, Observer] = {}
        self.active: FilterIndex[Observer] = FilterIndex()


class ObserverIndex:
    """The observers that have not ended."""

    def __init__(self) -> None:
        self.by_id: dict[str, Observer] = {}
        # By id of the function and then by namespace: a function of the host is there in every namespace.
        self._sources: dict[str, dict[str, Watched]] = {}
        self._targets: dict[str, dict[str, Observer]] = {}
        self._owners: dict[str | None, dict[str, Observer]] = {}

    def add(self, observer: Observer, function: Function | None) -> None:
        """Take one up; `function` is its source, if that is there."""
        definition = observer.definition
        self.by_id[observer.id] = observer
        self._owners.setdefault(observer.owner_id, {})[observer.id] = observer
        self._targets.setdefault(definition.target.function_id, {})[observer.id] = observer
        places = self._sources.setdefault(definition.source.function_id, {})
        watched = places.get(definition.source.namespace)
        if watched is None:
            watched = places[definition.source.namespace] = Watched(function)
        watched.observers[observer.id] = observer

    def remove(self, observer: Observer) -> None:
        """Drop one that has ended."""
        self.by_id.pop(observer.id, None)
        definition = observer.definition
        _forget(self._owners, observer.owner_id, observer)
        _forget(self._targets, definition.target.function_id, observer)
        source = definition.source
        places = self._sources[source.function_id]
        watched = places[source.namespace]
        del watched.observers[observer.id]
        if not watched.observers:
            del places[source.namespace]
            if not places:
                del self._sources[source.function_id]

    def hand_over(self, observer: Observer, owner_id: str | None, owner_name: str | None) -> None:
        """Another connection owns it from now on."""
        _forget(self._owners, observer.owner_id, observer)
        observer.owner_id, observer.owner_name = owner_id, owner_name
        self._owners.setdefault(owner_id, {})[observer.id] = observer

    def owned_by(self, owner_id: str | None) -> list[Observer]:
        """The observers of a worker; None is the host."""
        return list(self._owners.get(owner_id, {}).values())

    def targeting(self, function_id: str) -> Iterable[Observer]:
        """Those whose target has that id, in any namespace."""
        return self._targets.get(function_id, {}).values()

    def places(self, function_id: str) -> dict[str, Watched]:
        """By namespace: who observes functions of that id."""
        return self._sources.get(function_id, {})

    def watched(self, function: Function) -> list[Watched]:
        """The observers of a function: one inside the host is the same in every namespace."""
        places = self._sources.get(function.id)
        if places is None:
            return []
        if function.owner is None:
            return list(places.values())
        found = places.get(function.namespace)
        return [] if found is None else [found]

    def watched_of(self, observer: Observer) -> Watched | None:
        """Where an observer stands."""
        source = observer.definition.source
        return self._sources.get(source.function_id, {}).get(source.namespace)

    def check_room(self, owner_id: str | None, definition: Definition) -> None:
        """Raises ObserverRefused when the owner or the function has as many as it may."""
        held = len(self._owners.get(owner_id, ()))
        source = definition.source
        watched = self._sources.get(source.function_id, {}).get(source.namespace)
        if held >= MOST_OBSERVERS or (watched is not None and len(watched.observers) >= MOST_OBSERVERS):
            raise refused(
                "LIMIT_EXCEEDED", f"A worker and a function have at most {MOST_OBSERVERS} observers each."
            )


def _forget(table: dict[Any, dict[str, Observer]], key: str | None, observer: Observer) -> None:
    held = table.get(key)
    if held is not None:
        held.pop(observer.id, None)
        if not held:
            del table[key]
