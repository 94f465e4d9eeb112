"""The sources `stream::on-changed`, `stream::on-join` and `stream::on-leave`, and their trigger types."""

from __future__ import annotations

from typing import Any

from iii_skill.companion import CompanionHost, Filter, Source, SourceTriggers, Trigger, TriggerProvider
from iii_skill.errors import TriggerRefused

WORKER_NAME = "iii-stream"

_TEXT, _TEXT_OR_NULL = {"type": "string"}, {"type": ["string", "null"]}

EVENT_SCHEMA = {
    "type": "object",
    "required": ["event", "groupId", "id", "streamName", "timestamp", "type"],
    "properties": {
        "type": _TEXT,
        "timestamp": {"type": "integer"},
        "streamName": _TEXT,
        "groupId": _TEXT,
        "id": _TEXT_OR_NULL,
        "event": {"type": "object", "required": ["type"], "properties": {"type": _TEXT, "data": {}}},
    },
}

PRESENCE_SCHEMA = {
    "type": "object",
    "required": ["group_id", "id", "stream_name", "subscription_id"],
    "properties": {
        "subscription_id": _TEXT,
        "stream_name": _TEXT,
        "group_id": _TEXT,
        "id": _TEXT_OR_NULL,
        "context": {},
    },
}


def changed_source() -> Source:
    """Every change of an item, and everything that is sent to a stream, is an event of it."""
    return Source(
        "stream::on-changed",
        "Called after every change of a stream, and for every event that is sent to it",
        worker_name=WORKER_NAME,
        event_schema=EVENT_SCHEMA,
        plain=("type", "timestamp", "streamName", "groupId", "id"),
    )


def joined_source() -> Source:
    """Every subscription that was let in is an event of it."""
    return Source(
        "stream::on-join",
        "Called when a client has subscribed to a stream",
        worker_name=WORKER_NAME,
        event_schema=PRESENCE_SCHEMA,
    )


def left_source() -> Source:
    """Every subscription that ended is an event of it."""
    return Source(
        "stream::on-leave",
        "Called when a subscription to a stream has ended",
        worker_name=WORKER_NAME,
        event_schema=PRESENCE_SCHEMA,
    )


class _SourceTriggers(SourceTriggers):
    worker_name = WORKER_NAME

    def __init__(self, host: CompanionHost, source: Source) -> None:
        def fire(trigger: Trigger, lane: Any, payload: bytes, condition: str | None = None, /) -> bool:
            host.fire(trigger, payload, order=lane, condition=condition)
            return True

        super().__init__(source, fire)


class StreamTriggers(_SourceTriggers):
    """The trigger type `stream`: its triggers filter by stream, group and item."""

    trigger_type = "stream"
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

    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """Exact filters; null, "" and nothing are any. TriggerRefused for settings of the wrong type."""
        config: Any = trigger.settings()
        config = {} if config is None else config
        names = ("stream_name", "group_id", "item_id", "condition_function_id")
        if not isinstance(config, dict) or any(
            not isinstance(config.get(name), str | None) for name in names
        ):
            raise TriggerRefused("Failed to deserialize stream trigger")
        stream, group, item, condition = (config.get(name) or None for name in names)
        wanted = {"input.streamName": stream, "input.groupId": group, "input.id": item}
        return Filter.one_of(
            {path: [value] for path, value in wanted.items() if value is not None}
        ), condition


class JoinTriggers(TriggerProvider):
    """The trigger type `stream:join`: each is asked about every subscription; settings do not count."""

    trigger_type = "stream:join"
    worker_name = WORKER_NAME
    description = "Fires when a client subscribes to a stream."

    def __init__(self) -> None:
        self.triggers: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        self.triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        self.triggers.pop(trigger.id, None)


class LeaveTriggers(_SourceTriggers):
    """The trigger type `stream:leave`: each hears of every stream; settings do not count."""

    trigger_type = "stream:leave"
    description = "Fires when a subscription to a stream ends."

    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """Everything."""
        return Filter.one_of({}), None
