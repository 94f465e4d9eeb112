"""The trigger type `state`: which registrations want to hear of a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from iii_skill.errors import TriggerRefused
from iii_skill.serde.reader import Mismatch, Shape, optional_string, read
from iii_skill.triggers import Match, Trigger, TriggerProvider
from iii_skill.values import Change


class TriggerConfig(msgspec.Struct, frozen=True):
    """Exact filters (None: any; "" matches only "") and the function that may say no (None: none)."""

    scope: str | None
    key: str | None
    condition_function_id: str | None


_SHAPE = Shape(
    "StateTriggerConfig",
    {"scope": optional_string, "key": optional_string, "condition_function_id": optional_string},
    {"scope": None, "key": None, "condition_function_id": None},
)


def read_config(config: bytes) -> TriggerConfig:
    """Parse a trigger's configuration; TriggerRefused carries the engine's text."""
    try:
        return TriggerConfig(**read(_SHAPE, config))
    except (Mismatch, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TriggerRefused(f"Failed to parse trigger config: {error}") from None


CONFIG_SCHEMA = {
    "type": "object",
    "properties": {
        "scope": {"type": ["string", "null"], "description": "Only writes to this scope; null: every scope."},
        "key": {"type": ["string", "null"], "description": "Only writes to this key; null: every key."},
        "condition_function_id": {
            "type": ["string", "null"],
            "description": "Called with the event first; only the answer `false` stops the handler.",
        },
    },
}

EVENT_SCHEMA = {
    "type": "object",
    "required": ["event_type", "key", "new_value", "scope", "type"],
    "properties": {
        "type": {"type": "string"},
        "event_type": {"allOf": [{"$ref": "#/definitions/StateEventType"}]},
        "scope": {"type": "string"},
        "key": {"type": "string"},
        "old_value": {},
        "new_value": {},
    },
    "definitions": {
        "StateEventType": {"type": "string", "enum": ["state:created", "state:updated", "state:deleted"]}
    },
}


class StateTriggers(TriggerProvider):
    """All `state` triggers, found by scope and key."""

    trigger_type = "state"
    description = (
        "Fires after a state::* write to `scope` and `key` unless `condition_function_id` says false."
    )
    configuration_schema = CONFIG_SCHEMA
    request_schema = EVENT_SCHEMA

    def __init__(self) -> None:
        self.filters: dict[str, tuple[str | None, str | None]] = {}
        """Trigger id to the scope and key that it asks for."""
        self.on_register: Callable[[], None] | None = None
        """Called after every registration."""
        self._matches: dict[tuple[str | None, str | None], dict[str, Match]] = {}

    def __len__(self) -> int:
        return len(self.filters)

    def register(self, trigger: Trigger) -> None:
        """Start it, or replace the trigger of that id; TriggerRefused leaves all as it was."""
        config = read_config(trigger.config)
        self.unregister(trigger)
        where = (config.scope, config.key)
        self.filters[trigger.id] = where
        self._matches.setdefault(where, {})[trigger.id] = Match(trigger, config.condition_function_id)
        if self.on_register is not None:
            self.on_register()

    def clear(self) -> None:
        """Stop all of them."""
        self.filters.clear()
        self._matches.clear()

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; unknown ids are fine."""
        where = self.filters.pop(trigger.id, None)
        if where is None:
            return
        matches = self._matches[where]
        del matches[trigger.id]
        if not matches:
            del self._matches[where]

    def matching(self, change: Change) -> Sequence[Match]:
        """The triggers whose filters accept the change; costs nothing while there are none."""
        if not self._matches:
            return ()
        scope, key = change.scope, change.key
        found: list[Match] = []
        for where in ((scope, key), (scope, None), (None, key), (None, None)):
            matches = self._matches.get(where)
            if matches:
                found.extend(matches.values())
        return found
