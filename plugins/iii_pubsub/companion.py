"""PubSub: a message goes to every subscriber of its topic that is there now."""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.companion import Call, Companion, CompanionHost, Trigger, TriggerProvider
from iii_skill.errors import CallerError
from iii_skill.serde.reader import Shape, anything, read_input, string

_MESSAGE = Shape("PubSubInput", {"topic": string, "data": anything})

PUBLISH_SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "description": "Matched exactly; there are no wildcards."},
        "data": {"description": "Any JSON; subscribers get it as it is."},
    },
    "required": ["data", "topic"],
}
SUBSCRIBE_SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}


class PubSubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `iii-pubsub`. `adapter` is taken as in the engine's files and selects nothing here."""

    adapter: dict[str, Any] | None = None


class TopicNotSet(CallerError):
    """A message needs a topic."""

    code = "topic_not_set"


class Subscriptions(TriggerProvider):
    """The trigger type `subscribe`: who wants the messages of a topic. Conditions are never asked."""

    trigger_type = "subscribe"
    worker_name = "iii-pubsub"
    description = "Fires with the data of every message that is published to `topic`."
    configuration_schema = SUBSCRIBE_SCHEMA

    def __init__(self, host: CompanionHost) -> None:
        self._host = host
        self._topics: dict[str, dict[str, Trigger]] = {}
        self._topic_of: dict[str, str] = {}

    def register(self, trigger: Trigger) -> None:
        """Start it; one without a topic is accepted and gets nothing, as on the engine."""
        self.unregister(trigger)
        settings = trigger.settings()
        topic = settings.get("topic") if isinstance(settings, dict) else None
        if not isinstance(topic, str):
            self._host.log.warning(
                'the subscription of %s names no topic (config {"topic": "..."}), so it gets no message',
                trigger.function_id,
            )
            return
        self._topic_of[trigger.id] = topic
        # The engine hands the metadata of a subscription to nobody.
        bare = msgspec.structs.replace(trigger, metadata=None)
        self._topics.setdefault(topic, {})[trigger.id] = bare

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; the others of its topic stay."""
        topic = self._topic_of.pop(trigger.id, None)
        if topic is None:
            return
        subscribers = self._topics[topic]
        del subscribers[trigger.id]
        if not subscribers:
            del self._topics[topic]

    def publish(self, topic: str, data: bytes) -> None:
        """Call every subscriber at once, in the order of registration; a slow one holds back nobody."""
        for trigger in self._topics.get(topic, {}).copy().values():
            # An order of its own for each message: messages leave in order and are handled side by side.
            self._host.fire(trigger, data, order=object())


class PubSub(Companion):
    """The worker `iii-pubsub`."""

    name = "iii-pubsub"
    aliases = ("pubsub",)
    description = "Publish and subscribe by topic."
    config_type = PubSubSettings
    on_by_default = True

    async def start(self, host: CompanionHost, settings: PubSubSettings) -> None:
        """Offer `publish` and `subscribe`."""
        self._subscriptions = Subscriptions(host)
        host.add_handler(
            "publish",
            self._publish,
            description="Send data to every subscriber of a topic; it is answered before they handle it.",
            request_schema=PUBLISH_SCHEMA,
        )
        host.add_trigger_type(self._subscriptions)
        adapter = (settings.adapter or {}).get("name")
        if adapter not in (None, "local"):
            host.log.warning(
                "adapter '%s' of iii-pubsub is not used: topics live in this host alone", adapter
            )

    def _publish(self, call: Call) -> None:
        try:
            message = read_input("publish", _MESSAGE, call.data)
            if not message["topic"]:
                raise TopicNotSet("Topic is not set")
        except CallerError as error:
            call.fail(error)
            return
        call.succeed(None)
        self._subscriptions.publish(message["topic"], bytes(message["data"]))
