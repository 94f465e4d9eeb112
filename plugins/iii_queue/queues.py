"""Queues: the work queues by name and by subscriber.

Scopes of the store are JSON arrays, so that no name can be mistaken for another: `["queue", name]` holds the
jobs of a named queue, `["topic", topic, namespace, function]` those of a subscriber, `["parked", topic]`
messages that wait for a first subscriber.
"""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.companion import CompanionHost

from .settings import JobLimits, NamedQueue, QueueSettings
from .subscribers import Subscribers
from .topics import Admission, Topics, TopicSubscriber
from .work_queue import WorkQueue

_encode = msgspec.json.Encoder().encode


def scope_of(*parts: str | None) -> str:
    """The scope with these parts."""
    return _encode(parts).decode()


def parts_of(scope: str) -> list[Any]:
    """The parts of a scope of jobs or parked messages; none for other scopes."""
    if not scope.startswith("["):
        return []
    parts = msgspec.json.decode(scope)
    assert isinstance(parts, list)
    return parts


def _listed(_subject: None, _outcome: Any) -> None:
    """Nobody waits for it."""


class Queues:
    """The queues that were needed so far, and how named ones run."""

    def __init__(
        self,
        host: CompanionHost,
        settings: QueueSettings,
        topics: Topics,
        subscribers: Subscribers,
        *,
        me: str,
    ) -> None:
        self.named: dict[str, NamedQueue] = dict(settings.queue_configs)
        """What the configuration file or a call defined."""
        self.by_scope: dict[str, WorkQueue] = {}
        self._host = host
        self._settings = settings
        self._topics = topics
        self._subscribers = subscribers
        self._me = me

    def define(self, name: str, config: NamedQueue) -> None:
        """Jobs of that queue run so from now on."""
        self.named[name] = config
        self.at(scope_of("queue", name)).limits = config.limits()

    def at(self, scope: str) -> WorkQueue:
        """The queue of a scope; it is made when it is first needed."""
        queue = self.by_scope.get(scope)
        if queue is None:
            parts = parts_of(scope)
            settings = self._settings
            limits, is_open, admit = JobLimits(), None, None
            if parts[0] == "queue":
                limits = self.named[parts[1]].limits() if parts[1] in self.named else limits
            else:
                subscriber = TopicSubscriber(parts[1], parts[3], parts[2])
                known = self._subscribers.get(subscriber)
                limits = limits if known is None else known.limits
                admit = Admission(self._host, self._topics, subscriber)

                def is_open() -> bool:
                    return self._topics.is_subscribed(subscriber)

            queue = self.by_scope[scope] = WorkQueue(
                self._host,
                scope,
                limits,
                me=self._me,
                lease_s=settings.lease_ms / 1000,
                max_jobs=settings.max_jobs,
                is_open=is_open,
                admit=admit,
            )
            store = self._host.store
            if not store.shared:
                # Every job is a new key: a store that has listed the scope once need not look for each.
                store.settle(store.list(scope), None, _listed, _listed)
        return queue

    def of_subscriber(self, subscriber: TopicSubscriber) -> WorkQueue:
        """The queue of a function that takes the messages of a topic."""
        return self.at(scope_of("topic", subscriber.topic, subscriber.namespace, subscriber.function_id))

    def called(self, name: str) -> list[WorkQueue]:
        """What a name means: a queue, else the queues of all subscribers of a topic."""
        scope = scope_of("queue", name)
        if name in self.named or scope in self.by_scope:
            return [self.at(scope)]
        return [self.of_subscriber(subscriber) for subscriber in self._subscribers.of(name)]
