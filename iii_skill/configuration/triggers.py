"""`configuration::on-updated`, the source of changed entries, and the trigger type that listens to it."""

from __future__ import annotations

import msgspec

from iii_skill.configuration.entries import ConfigurationEvent
from iii_skill.configuration.functions import WORKER_NAME
from iii_skill.errors import TriggerRefused
from iii_skill.filters.filter import Filter
from iii_skill.serde.reader import Mismatch, Shape, optional_string, read, strings
from iii_skill.sources import Source, SourceTriggers
from iii_skill.triggers import Trigger

ON_UPDATED = "configuration::on-updated"

_SHAPE = Shape(
    "ConfigurationTriggerConfig",
    {"configuration_id": optional_string, "event_types": strings, "condition_function_id": optional_string},
    {"configuration_id": None, "event_types": None, "condition_function_id": None},
    positional=False,
)


def configuration_source() -> Source:
    """Every registration and every replacement of an entry is an event of it."""
    return Source(
        ON_UPDATED, "Called when a configuration entry is registered or replaced", worker_name=WORKER_NAME
    )


def configuration_changed(source: Source, event: ConfigurationEvent) -> None:
    """Tell whoever listens, in order for each entry."""
    if source.listeners:
        source.happened(event.id, event.payload)


class ConfigurationTriggers(SourceTriggers):
    """Triggers filter by entry and kind of event."""

    trigger_type = "configuration"
    worker_name = "configuration"
    description = "Fires when a configuration entry is registered or replaced."
    configuration_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "configuration_id": {"type": ["string", "null"]},
            "event_types": {"type": ["array", "null"], "items": {"type": "string"}},
            "condition_function_id": {"type": ["string", "null"]},
        },
    }

    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """Exact filters; null is any, no event types are none."""
        try:
            config = read(_SHAPE, trigger.config)
        except (Mismatch, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TriggerRefused(f"Failed to parse trigger config: {error}") from None
        wanted = {}
        if config["configuration_id"] is not None:
            wanted["input.id"] = [config["configuration_id"]]
        if config["event_types"] is not None:
            wanted["input.event_type"] = config["event_types"]
        return Filter.one_of(wanted), config["condition_function_id"]
