"""The trigger type `configuration`: which registrations want to hear of a changed entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from iii_skill.configuration.entries import ConfigurationEvent
from iii_skill.errors import TriggerRefused
from iii_skill.serde.reader import Mismatch, Shape, optional_string, read, strings
from iii_skill.triggers import Match, Trigger, TriggerProvider

_SHAPE = Shape(
    "ConfigurationTriggerConfig",
    {"configuration_id": optional_string, "event_types": strings, "condition_function_id": optional_string},
    {"configuration_id": None, "event_types": None, "condition_function_id": None},
    positional=False,
)


class ConfigurationTriggers(TriggerProvider):
    """All `configuration` triggers."""

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

    def __init__(self) -> None:
        self._triggers: dict[str, tuple[dict[str, Any], Match]] = {}

    def register(self, trigger: Trigger) -> None:
        """Start it, or replace the trigger of that id; TriggerRefused leaves all as it was."""
        try:
            config = read(_SHAPE, trigger.config)
        except (Mismatch, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TriggerRefused(f"Failed to parse trigger config: {error}") from None
        self._triggers[trigger.id] = (config, Match(trigger, config["condition_function_id"]))

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; unknown ids are fine."""
        self._triggers.pop(trigger.id, None)

    def matching(self, event: ConfigurationEvent) -> Sequence[Match]:
        """The triggers whose filters accept the event."""
        return [
            match
            for config, match in self._triggers.values()
            if config["configuration_id"] in (None, event.id)
            and (config["event_types"] is None or event.event_type in config["event_types"])
        ]
