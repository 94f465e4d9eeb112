"""Subscribers: who takes the messages of which topic, also while they are away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from iii_skill.companion import CompanionHost

from .settings import JobLimits, QueueSettings
from .topics import Subscription, Topics, TopicSubscriber

SUBSCRIBERS = "subscribers"
"""Their scope in the store."""

_encode = msgspec.json.Encoder().encode


class StoredSubscriber(msgspec.Struct, frozen=True):
    """A subscriber as the store remembers it, so that messages find it while it is away."""

    topic: str
    function_id: str
    namespace: str | None
    limits: JobLimits
    condition: str | None
    metadata: msgspec.Raw | None
    seen: float
    """When it was last there (seconds since 1970)."""

    @property
    def subscriber(self) -> TopicSubscriber:
        """Who it is."""
        return TopicSubscriber(self.topic, self.function_id, self.namespace)


_stored_subscriber = msgspec.json.Decoder(StoredSubscriber).decode


class Subscribers:
    """All that the store remembers."""

    def __init__(
        self,
        host: CompanionHost,
        settings: QueueSettings,
        topics: Topics,
        too_old: Callable[[TopicSubscriber], None],
    ) -> None:
        """`too_old` is called with each that is forgotten: it was away for too long."""
        self._host = host
        self._settings = settings
        self._topics = topics
        self._too_old = too_old
        self._known: dict[str, dict[TopicSubscriber, StoredSubscriber]] = {}

    def take_up(self, value: bytes) -> None:
        """What the store holds of one."""
        with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError):
            stored = _stored_subscriber(value)
            self._known.setdefault(stored.topic, {})[stored.subscriber] = stored

    def remember(self, subscription: Subscription) -> None:
        """It is there now, and the store is told so."""
        subscriber = subscription.subscriber
        metadata = subscription.trigger.metadata
        stored = StoredSubscriber(
            subscriber.topic,
            subscriber.function_id,
            subscriber.namespace,
            subscription.limits,
            subscription.condition,
            None if metadata is None else msgspec.Raw(metadata),
            self._host.clock.now(),
        )
        self._known.setdefault(subscriber.topic, {})[subscriber] = stored
        store = self._host.store
        store.settle(
            store.set(SUBSCRIBERS, subscriber.key, _encode(stored)),
            subscriber,
            lambda _subscriber, _change: None,
            lambda subscriber, error: self._host.log.warning(
                "the subscription of %s is not stored: %s", subscriber.function_id, error
            ),
            key=(SUBSCRIBERS, subscriber.key),
        )

    def get(self, subscriber: TopicSubscriber) -> StoredSubscriber | None:
        """What is remembered of one."""
        return self._known.get(subscriber.topic, {}).get(subscriber)

    def of(self, topic: str) -> dict[TopicSubscriber, StoredSubscriber]:
        """Who gets a message of the topic: who is there, and who was there not too long ago."""
        known = self._known.get(topic)
        if not known:
            return {}
        oldest = self._host.clock.now() - self._settings.subscriber_retention_ms / 1000
        there = {
            subscriber: stored
            for subscriber, stored in known.items()
            if stored.seen >= oldest or self._topics.is_subscribed(subscriber)
        }
        for subscriber in known.keys() - there.keys():
            del known[subscriber]
            self._too_old(subscriber)
        return there
