"""Topics: who subscribes to which, and who did; each function has a queue of its own for each topic."""

from __future__ import annotations

from typing import Protocol

import msgspec

from iii_skill.companion import CompanionHost, Trigger, TriggerProvider

from .settings import JobLimits, QueueSettings

_encode = msgspec.json.Encoder().encode


class TopicSubscriber(msgspec.Struct, frozen=True):
    """A function that takes the messages of a topic, from wherever it was registered."""

    topic: str
    function_id: str
    namespace: str | None = None

    @property
    def key(self) -> str:
        """Its name in the store; no two subscribers share one."""
        return _encode([self.topic, self.namespace, self.function_id]).decode()


class Subscription(msgspec.Struct, frozen=True):
    """One trigger: the subscriber that it stands for, and how its jobs are run."""

    trigger: Trigger
    subscriber: TopicSubscriber
    limits: JobLimits
    condition: str | None


class Topics:
    """The subscriptions of all triggers, by topic."""

    def __init__(self) -> None:
        self.by_topic: dict[str, dict[str, Subscription]] = {}
        self._topic_of: dict[str, str] = {}

    def add(self, subscription: Subscription) -> None:
        """A trigger came."""
        topic = subscription.subscriber.topic
        self._topic_of[subscription.trigger.id] = topic
        self.by_topic.setdefault(topic, {})[subscription.trigger.id] = subscription

    def remove(self, trigger_id: str) -> Subscription | None:
        """A trigger ended; what it was, or None."""
        topic = self._topic_of.pop(trigger_id, None)
        if topic is None:
            return None
        found = self.by_topic[topic].pop(trigger_id)
        if not self.by_topic[topic]:
            del self.by_topic[topic]
        return found

    def is_subscribed(self, subscriber: TopicSubscriber) -> bool:
        """True while a trigger of the subscriber is there."""
        there = self.by_topic.get(subscriber.topic, {})
        return any(found.subscriber == subscriber for found in there.values())


class SubscriptionOwner(Protocol):
    """Who hears of subscriptions."""

    def subscribed(self, subscription: Subscription) -> None:
        """A trigger came."""

    def unsubscribed(self, trigger_id: str) -> None:
        """A trigger ended; unknown ids are fine."""


class DurableSubscribers(TriggerProvider):
    """The trigger type `durable:subscriber`, and `queue`, its name in engine 0.10."""

    worker_name = "queue"
    description = "Runs the function for every message that is published durably to `topic`."
    configuration_schema = {  # noqa: RUF012
        "type": "object",
        "properties": {
            "topic": {"type": "string"},
            "condition_function_id": {"type": ["string", "null"]},
            "queue_config": {
                "type": ["object", "null"],
                "properties": {
                    "type": {"type": "string"},
                    "maxRetries": {"type": "integer"},
                    "concurrency": {"type": "integer"},
                    "backoffDelayMs": {"type": "integer"},
                },
            },
        },
        "required": ["topic"],
    }

    def __init__(
        self, trigger_type: str, host: CompanionHost, settings: QueueSettings, owner: SubscriptionOwner
    ) -> None:
        self.trigger_type = trigger_type
        self._host = host
        self._settings = settings
        self._owner = owner

    def register(self, trigger: Trigger) -> None:
        """Start it; one without a topic is accepted and gets nothing, as on the engine."""
        self.unregister(trigger)
        config = trigger.settings()
        config = config if isinstance(config, dict) else {}
        topic = config.get("topic", config.get("queue"))
        if not isinstance(topic, str) or not topic:
            self._host.log.warning(
                'the subscription of %s names no topic (config {"topic": "..."}), so it gets no message',
                trigger.function_id,
            )
            return
        condition = config.get("condition_function_id")
        subscriber = TopicSubscriber(topic, trigger.function_id, trigger.namespace)
        limits = self._settings.subscriber_limits(config)
        self._owner.subscribed(
            Subscription(trigger, subscriber, limits, condition if isinstance(condition, str) else None)
        )

    def unregister(self, trigger: Trigger) -> None:
        """Stop it; its queue stays and goes on when the function subscribes again."""
        self._owner.unsubscribed(trigger.id)
