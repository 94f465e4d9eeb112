"""Triggers of old SDKs whose type a function has taken over: each becomes an observer of that function."""

from __future__ import annotations

from msgspec import Raw

from iii_skill.engine.engine import Engine
from iii_skill.engine.functions import Function
from iii_skill.errors import CallerError, TriggerRefused
from iii_skill.observers.table import Observers
from iii_skill.protocol.messages import Observe, ObservedSource, Target
from iii_skill.protocol.outgoing import LegacyTrigger
from iii_skill.triggers import Trigger, TriggerProvider


class LegacyType(TriggerProvider):
    """A trigger type that a function says it has taken over; a live provider of the type comes first."""

    def __init__(self, engine: Engine, observers: Observers, function: Function, trigger_type: str) -> None:
        self.trigger_type = trigger_type
        self.description = f"Observers of {function.id}"
        self.function = function
        self._engine = engine
        self._observers = observers

    def register(self, trigger: Trigger) -> None:
        """The settings of the trigger are the args of the observer."""
        owner = self._engine.workers.get(trigger.owner_id or "")
        settings = trigger.settings()
        function = self.function
        message = Observe(
            trigger.id,
            ObservedSource(function.id, function.namespace, settings),
            Target(trigger.function_id, trigger.namespace),
            Raw(b"null" if trigger.metadata is None else trigger.metadata),
        )
        legacy = LegacyTrigger(trigger.trigger_type, settings)
        try:
            self._observers.observe(owner, message, args_fit=True, legacy=legacy)
        except CallerError as error:
            raise TriggerRefused(error.message, code=error.code) from None

    def unregister(self, trigger: Trigger) -> None:
        """The trigger has ended, or somebody provides its type."""
        observer = self._observers.get(trigger.id)
        if observer is not None and observer.legacy is not None:
            self._observers.end(observer, "UNOBSERVED", "The trigger has ended, or its type is provided.")


class LegacyTypes:
    """Follows the functions that have taken trigger types over."""

    def __init__(self, engine: Engine, observers: Observers) -> None:
        self._engine = engine
        self._observers = observers
        engine.on_function.append(self._changed)

    def _changed(self, function: Function) -> None:
        trigger_type = function.legacy_trigger_type
        if trigger_type is None or trigger_type in self._engine.triggers.builtin_types:
            return
        table = self._engine.triggers
        held = table.substitutes.get(trigger_type)
        there = self._engine.functions.lookup(function.id, function.namespace) is function
        if there and isinstance(held, LegacyType) and _same(held.function, function):
            held.function = function
        elif there and held is None:
            table.add_substitute(LegacyType(self._engine, self._observers, function, trigger_type))
        elif not there and isinstance(held, LegacyType) and held.function is function:
            table.remove_substitute(trigger_type)


def _same(one: Function, other: Function) -> bool:
    return (one.id, one.namespace) == (other.id, other.namespace)
