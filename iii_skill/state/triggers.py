"""`state::on-changed`, the source of every change, and the trigger type `state` that listens to it."""

from __future__ import annotations

import msgspec

from iii_skill.errors import TriggerRefused
from iii_skill.filters.filter import Filter
from iii_skill.serde.reader import Mismatch, Shape, optional_string, read
from iii_skill.sources import Source, SourceTriggers
from iii_skill.state.events import event_payload, event_type
from iii_skill.state.functions import WORKER_NAME
from iii_skill.triggers import Trigger
from iii_skill.values import Change

ON_CHANGED = "state::on-changed"


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


def state_source() -> Source:
    """Every change of a key is an event of it."""
    return Source(
        ON_CHANGED,
        "Called after every committed write to state",
        worker_name=WORKER_NAME,
        event_schema=EVENT_SCHEMA,
        plain=("type", "event_type", "scope", "key"),
    )


def state_changed(source: Source, change: Change) -> None:
    """Tell whoever listens, in order for each key; costs nothing while nobody does."""
    if source.listeners:
        plain = {"type": "state", "event_type": event_type(change), "scope": change.scope, "key": change.key}
        source.happened((change.scope, change.key), event_payload(change), plain)


class StateTriggers(SourceTriggers):
    """Triggers filter by scope and key."""

    trigger_type = "state"
    description = (
        "Fires after a state::* write to `scope` and `key` unless `condition_function_id` says false."
    )
    configuration_schema = CONFIG_SCHEMA
    request_schema = EVENT_SCHEMA

    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """Exact filters; null is any, "" only ""."""
        config = read_config(trigger.config)
        wanted = {"input.scope": config.scope, "input.key": config.key}
        exact = {path: [value] for path, value in wanted.items() if value is not None}
        return Filter.one_of(exact), config.condition_function_id
