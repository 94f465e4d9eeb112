"""The trigger types `stream`, `stream:join` and `stream:leave`."""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.companion import CompanionHost, Match, Trigger, TriggerProvider
from iii_skill.errors import TriggerRefused

from .events import StreamEvent


class _Filter(msgspec.Struct, frozen=True):
    """None (or an empty text in a configuration): any."""

    stream: str | None
    group: str | None
    item: str | None


class StreamTriggers(TriggerProvider):
    """The trigger type `stream`: which registrations want an event."""

    trigger_type = "stream"
    worker_name = "iii-stream"
    description = "Fires for every change of a stream, and for every event that is sent to it."
    configuration_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "stream_name": {"type": "string", "description": "Absent: every stream."},
            "group_id": {"type": ["string", "null"]},
            "item_id": {"type": ["string", "null"]},
            "condition_function_id": {"type": ["string", "null"]},
        },
    }

    def __init__(self, host: CompanionHost) -> None:
        self._host = host
        self._matches: dict[str, tuple[_Filter, Match]] = {}

    def register(self, trigger: Trigger) -> None:
        """Start it; TriggerRefused for settings of the wrong type."""
        config: Any = trigger.settings()
        config = {} if config is None else config
        names = ("stream_name", "group_id", "item_id", "condition_function_id")
        if not isinstance(config, dict) or any(
            not isinstance(config.get(name), str | None) for name in names
        ):
            raise TriggerRefused("Failed to deserialize stream trigger")
        stream, group, item, condition = (config.get(name) or None for name in names)
        self._matches[trigger.id] = (_Filter(stream, group, item), Match(trigger, condition))

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; unknown ids are fine."""
        self._matches.pop(trigger.id, None)

    def fire(self, event: StreamEvent, payload: bytes) -> None:
        """Call every function that wants the event, in order for each item."""
        for wanted, match in list(self._matches.values()):
            if (
                wanted.stream in (None, event.stream)
                and wanted.group in (None, event.group)
                and wanted.item in (None, event.item)
            ):
                self._host.fire(
                    match.trigger, payload, order=event.order, condition=match.condition_function_id
                )

    def __len__(self) -> int:
        return len(self._matches)


class PresenceTriggers(TriggerProvider):
    """`stream:join` or `stream:leave`: every trigger hears of every stream; settings do not count."""

    worker_name = "iii-stream"

    def __init__(self, trigger_type: str, description: str) -> None:
        self.trigger_type = trigger_type
        self.description = description
        self.triggers: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        """Start it."""
        self.triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        """Stop it."""
        self.triggers.pop(trigger.id, None)
