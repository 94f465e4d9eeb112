"""Sources inside the host: functions that only the host calls, when something happens; and who listens.

Triggers of old SDKs and observers of new ones listen in the same way: a name, a filter, and what is done
with an event.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from iii_skill.filters.filter import Filter
from iii_skill.filters.index import FilterIndex
from iii_skill.filters.language import clauses
from iii_skill.triggers import Subscriber, Trigger, TriggerProvider


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something happened. `payload` is encoded JSON; events of one `lane` keep their order."""

    lane: Hashable
    payload: bytes


Hear: TypeAlias = Callable[[Event], None]
"""What a listener does with an event."""


class Fire(Protocol):
    """How the function of a trigger is called: `Fanout.fire`."""

    def __call__(
        self, trigger: Trigger, lane: Hashable, payload: bytes, condition: str | None = None, /
    ) -> bool:
        """Call it after every earlier event of the lane; False when the event was dropped."""


class Source:
    """A function inside the host that is called by nobody but the host."""

    def __init__(
        self,
        function_id: str,
        description: str,
        *,
        worker_name: str,
        event_schema: Any = None,
        args_format: Any = None,
        plain: Collection[str] | None = None,
    ) -> None:
        """`plain` are the members of an event that `happened` is given decoded; None: all of them."""
        self.function_id = function_id
        self.description = description
        self.worker_name = worker_name
        self.event_schema = event_schema
        self.args_format = args_format
        self.listeners: FilterIndex[Hear] = FilterIndex()
        self.on_listen: Callable[[], None] | None = None
        """Called after somebody came to listen."""
        self._plain = None if plain is None else frozenset(plain)
        # Who looks at more than the plain members: while anybody does, events are decoded.
        self._thorough: set[str] = set()

    @property
    def caller(self) -> bytes:
        """How observers see who calls it, encoded."""
        return msgspec.json.encode({"worker_name": self.worker_name})

    def admit(self, observer: Subscriber, args: Any) -> None:
        """Take the args of an observer that `args_format` lets through; CallerError refuses it."""

    def dismiss(self, observer_id: str) -> None:
        """The observer has ended."""

    def listen(self, name: str, filter_: Filter, hear: Hear) -> None:
        """Hear the events that the filter lets through; a second one of that name replaces the first."""
        self.listeners.add(name, hear, filter_)
        self._thorough.discard(name)
        if not self._reads_plain(filter_):
            self._thorough.add(name)
        if self.on_listen is not None:
            self.on_listen()

    def leave(self, name: str) -> None:
        """Hear nothing more; unknown names are fine."""
        self.listeners.remove(name)
        self._thorough.discard(name)

    def clear(self) -> None:
        """Nobody listens any more."""
        self.listeners.clear()
        self._thorough.clear()

    def happened(self, lane: Hashable, payload: bytes, plain: Mapping[str, Any] | None = None) -> None:
        """Tell those who want to hear of it, in the order in which they came."""
        event = plain if plain is not None and not self._thorough else msgspec.json.decode(payload)
        heard = self.listeners.matching({"input": event, "output": event})
        if heard:
            told = Event(lane, payload)
            for hear in heard:
                hear(told)

    def _reads_plain(self, filter_: Filter) -> bool:
        """True when the filter looks at nothing but the plain members."""
        plain = self._plain
        return plain is None or all(
            clause.path.root in ("input", "output")
            and bool(clause.path.segments)
            and clause.path.segments[0] in plain
            for clause in clauses(filter_.tree)
        )


class SourceTriggers(TriggerProvider):
    """A trigger type whose triggers listen to a source."""

    def __init__(self, source: Source, fire: Fire) -> None:
        self.source = source
        self._fire = fire

    def register(self, trigger: Trigger) -> None:
        """Start it, or replace the trigger of that id; TriggerRefused leaves all as it was."""
        filter_, condition = self.read(trigger)

        def hear(event: Event) -> None:
            self._fire(trigger, event.lane, event.payload, condition)

        self.source.listen(trigger.id, filter_, hear)

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; unknown ids are fine."""
        self.source.leave(trigger.id)

    @abstractmethod
    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """What it wants to hear, and the function that may say no: None: none, "": one nobody serves."""
