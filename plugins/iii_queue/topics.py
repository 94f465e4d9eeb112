"""Topics: who subscribes to which, and who did; each function has a queue of its own for each topic."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from iii_skill.companion import (
    Call,
    CompanionHost,
    Failure,
    Filter,
    Hear,
    Source,
    Subscriber,
    Trigger,
    TriggerProvider,
)
from iii_skill.errors import CallerError

from .settings import Count, JobLimits, QueueSettings

ON_MESSAGE = "queue::on-message"

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
    """One trigger or observer: the subscriber that it stands for, and how its jobs are run."""

    trigger: Subscriber
    subscriber: TopicSubscriber
    limits: JobLimits
    condition: str | None = None
    filter: Filter | None = None
    """Of an observer: the messages that it wants; None: a trigger."""


class Topics:
    """The subscriptions of all triggers and observers, by topic and subscriber."""

    def __init__(self) -> None:
        self.by_topic: dict[str, dict[TopicSubscriber, dict[str, Subscription]]] = {}
        self._subscriber_of: dict[str, TopicSubscriber] = {}

    def add(self, subscription: Subscription) -> None:
        """A trigger came."""
        subscriber = subscription.subscriber
        self._subscriber_of[subscription.trigger.id] = subscriber
        there = self.by_topic.setdefault(subscriber.topic, {}).setdefault(subscriber, {})
        there[subscription.trigger.id] = subscription

    def remove(self, trigger_id: str) -> Subscription | None:
        """A trigger ended; what it was, or None."""
        subscriber = self._subscriber_of.pop(trigger_id, None)
        if subscriber is None:
            return None
        subscribers = self.by_topic[subscriber.topic]
        found = subscribers[subscriber].pop(trigger_id)
        if not subscribers[subscriber]:
            del subscribers[subscriber]
        if not subscribers:
            del self.by_topic[subscriber.topic]
        return found

    def is_subscribed(self, subscriber: TopicSubscriber) -> bool:
        """True while a subscription of the subscriber is there."""
        return subscriber in self.by_topic.get(subscriber.topic, {})

    def of(self, subscriber: TopicSubscriber) -> Collection[Subscription]:
        """The subscriptions that stand for a subscriber, in the order in which they came."""
        return self.by_topic.get(subscriber.topic, {}).get(subscriber, {}).values()

    def count(self, topic: str) -> int:
        """How many subscriptions a topic has."""
        return sum(map(len, self.by_topic.get(topic, {}).values()))

    def latest(self, subscriber: TopicSubscriber) -> Subscription | None:
        """The one of them that came last."""
        return next(reversed(self.by_topic.get(subscriber.topic, {}).get(subscriber, {}).values()), None)


class SubscriptionOwner(Protocol):
    """Who hears of subscriptions."""

    def subscribed(self, subscription: Subscription) -> None:
        """A trigger or an observer came."""

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


class _Args(msgspec.Struct, frozen=True):
    topic: str
    max_retries: Count | None = None
    backoff_ms: Count | None = None
    queue_config: dict[str, Any] | None = None
    group: str | None = None


class Messages(Source):
    """`queue::on-message`: an observer that is active is a subscriber of the topic in its args."""

    def __init__(self, settings: QueueSettings, owner: SubscriptionOwner) -> None:
        super().__init__(
            ON_MESSAGE,
            "Called for every message that is published durably to the topic that the args name",
            worker_name="iii-queue",
            args_format={
                "type": "object",
                "required": ["topic"],
                "properties": {
                    "topic": {"type": "string"},
                    "max_retries": {"type": "integer", "description": "Attempts in all."},
                    "backoff_ms": {"type": "integer"},
                    "queue_config": DurableSubscribers.configuration_schema["properties"]["queue_config"],
                },
            },
        )
        self._settings = settings
        self._owner = owner
        self._wanted: dict[str, tuple[Subscriber, str, JobLimits]] = {}

    def admit(self, observer: Subscriber, args: Any) -> None:
        """Take the topic; CallerError without one."""
        try:
            wanted = msgspec.convert(args, _Args)
        except msgspec.ValidationError as error:
            raise _refused(str(error)) from None
        if not wanted.topic:
            raise _refused("`topic` is empty")
        if wanted.group is not None:
            raise _refused("`group` is not served: the observers of one target share its messages as it is")
        limits = self._settings.subscriber_limits(
            {
                "max_retries": wanted.max_retries,
                "backoff_ms": wanted.backoff_ms,
                "queue_config": wanted.queue_config,
            }
        )
        if observer.max_in_flight is not None:
            # What the observer bounds need not be refused by it.
            concurrency = min(limits.concurrency, observer.max_in_flight)
            limits = msgspec.structs.replace(limits, concurrency=concurrency)
        self._wanted[observer.id] = (observer, wanted.topic, limits)

    def dismiss(self, observer_id: str) -> None:
        """Its args go with it."""
        self._wanted.pop(observer_id, None)

    def listen(self, name: str, filter_: Filter, hear: Hear) -> None:
        """Subscribe; the queue calls the target itself, through the observer."""
        observer, topic, limits = self._wanted[name]
        # Triggers leave out the namespace that an observer always names.
        namespace = None if observer.namespace == "default" else observer.namespace
        subscriber = TopicSubscriber(topic, observer.function_id, namespace)
        self._owner.subscribed(Subscription(observer, subscriber, limits, filter=filter_))

    def leave(self, name: str) -> None:
        """Messages wait for the target until an observer subscribes with it again."""
        self._owner.unsubscribed(name)


class Admission:
    """Through whom the jobs of a subscriber are called."""

    def __init__(self, host: CompanionHost, topics: Topics, subscriber: TopicSubscriber) -> None:
        self._host = host
        self._topics = topics
        self._subscriber = subscriber

    def __call__(self, call: Call) -> Callable[[], None] | Failure | None:
        """Let a call in: what says that it has ended, why it must wait, or None: nobody wants the message."""
        refusal: Failure | None = None
        message: Any = None
        decoded = False
        for subscription in list(self._topics.of(self._subscriber)):
            filter_ = subscription.filter
            if filter_ is None:
                return _ended
            if not filter_.matches_all:
                if not decoded:
                    message, decoded = msgspec.json.decode(call.data), True
                if not filter_.matches({"input": message}):
                    continue
            entered = self._host.enter(subscription.trigger, call)
            if not isinstance(entered, Failure):
                return entered
            refusal = entered
        if refusal is None and not self._topics.is_subscribed(self._subscriber):
            return Failure("OBSERVER_NOT_FOUND", "The subscriber has left.")
        return refusal


def _ended() -> None:
    """A trigger counts nothing."""


def _refused(fault: str) -> CallerError:
    return CallerError(f"The args of an observer of {ON_MESSAGE}: {fault}.", code="INVALID_ARGS")
