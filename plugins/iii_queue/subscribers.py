"""Subscribers: who takes the messages of which topic, also while they are away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection

import msgspec

from iii_skill.companion import CompanionHost, Timer

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
        self._topics = topics
        self._too_old = too_old
        self._known: dict[str, dict[TopicSubscriber, StoredSubscriber]] = {}
        self._retention_s = settings.subscriber_retention_ms / 1000
        self._renewal: Timer | None = None
        """Running while somebody is there: others, and this host after a crash, go by what is stored."""

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
        self._write(stored)
        self._renew_later()

    def stop(self) -> None:
        """Nobody is looked after any more."""
        if self._renewal is not None:
            self._renewal.cancel()

    def _renew_later(self) -> None:
        if self._renewal is None and self._retention_s:
            self._renewal = self._host.clock.call_later(self._retention_s / 4, self._renew)

    def _renew(self) -> None:
        """Who is there has not been away, however long ago it came."""
        self._renewal = None
        now = self._host.clock.now()
        there = [
            stored
            for known in self._known.values()
            for subscriber, stored in known.items()
            if self._topics.is_subscribed(subscriber)
        ]
        for stored in there:
            self._write(msgspec.structs.replace(stored, seen=now))
        if there:
            self._renew_later()

    def _write(self, stored: StoredSubscriber) -> None:
        subscriber, store = stored.subscriber, self._host.store
        self._known.setdefault(subscriber.topic, {})[subscriber] = stored
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

    def any_of(self, topic: str) -> bool:
        """Whether anybody gets a message of the topic; looks at one, and at those who are forgotten then."""
        oldest = self._oldest
        gone = []
        for subscriber, stored in self._known.get(topic, {}).items():
            if self._counts(subscriber, stored, oldest):
                break
            gone.append(subscriber)
        self._forget(topic, gone)
        return bool(self._known.get(topic))

    def of(self, topic: str) -> dict[TopicSubscriber, StoredSubscriber]:
        """Who gets a message of the topic: who is there, and who was there not too long ago."""
        oldest = self._oldest
        known = self._known.get(topic, {})
        self._forget(topic, [one for one, stored in known.items() if not self._counts(one, stored, oldest)])
        return dict(known)

    @property
    def _oldest(self) -> float:
        return self._host.clock.now() - self._retention_s

    def _counts(self, subscriber: TopicSubscriber, stored: StoredSubscriber, oldest: float) -> bool:
        return stored.seen >= oldest or self._topics.is_subscribed(subscriber)

    def _forget(self, topic: str, gone: Collection[TopicSubscriber]) -> None:
        for subscriber in gone:
            del self._known[topic][subscriber]
            self._too_old(subscriber)
