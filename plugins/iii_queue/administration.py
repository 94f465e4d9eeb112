"""Administration: the functions that look at queues and topics, and at what died in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from iii_skill.serde.reader import read_input

from .inputs import LETTERS, REDRIVE, STATS, message_of, need
from .parked import Parked
from .queues import Queues, parts_of
from .topics import Topics

MOST_LETTERS = 1_000
"""Dead letters in one answer, at most."""


class Administration:
    """What operators ask for."""

    def __init__(self, queues: Queues, topics: Topics, parked: Parked) -> None:
        self._queues = queues
        self._topics = topics
        self._parked = parked

    def functions(self) -> list[tuple[str, Callable[[bytes], Awaitable[Any]], str]]:
        """Each with its id and its description."""
        return [
            ("iii::queue::redrive", self._redrive, "Give all dead letters of a queue new attempts."),
            ("iii::queue::redrive_message", self._redrive_message, "Give one dead letter new attempts."),
            ("iii::queue::discard_message", self._discard_message, "Delete one dead letter."),
            ("engine::queue::list_topics", self._list_topics, "Queues, and topics with subscribers."),
            ("engine::queue::topic_stats", self._topic_stats, "How many jobs wait, run and are dead."),
            ("engine::queue::dlq_topics", self._dlq_topics, "Queues and topics with dead letters."),
            ("engine::queue::dlq_messages", self._dlq_messages, "Dead letters, newest first."),
        ]

    async def _redrive(self, payload: bytes) -> Any:
        name = read_input("iii::queue::redrive", REDRIVE, payload)["queue"]
        need(name, "queue_not_set", "Queue name is required")
        count = sum([await queue.redrive(lambda _job: True) for queue in self._queues.called(name)])
        return {"queue": name, "redriven": count}

    async def _redrive_message(self, payload: bytes) -> Any:
        name, message_id = message_of("iii::queue::redrive_message", payload)
        count = sum([await q.redrive(lambda job: job.id == message_id) for q in self._queues.called(name)])
        return {"queue": name, "message_id": message_id, "redriven": count}

    async def _discard_message(self, payload: bytes) -> Any:
        name, message_id = message_of("iii::queue::discard_message", payload)
        count = sum([await q.discard(lambda job: job.id == message_id) for q in self._queues.called(name)])
        return {"queue": name, "message_id": message_id, "redriven": count}

    async def _list_topics(self, _payload: bytes) -> Any:
        rows = [
            {"name": name, "broker_type": "builtin", "subscriber_count": self._topics.count(name)}
            for name in self._topics.by_topic
        ]
        for scope, queue in self._queues.by_scope.items():
            parts = parts_of(scope)
            if parts[0] == "queue":
                concurrency = queue.limits.concurrency
                rows.append({"name": parts[1], "broker_type": "builtin", "subscriber_count": concurrency})
        return rows

    async def _topic_stats(self, payload: bytes) -> Any:
        topic = read_input("engine::queue::topic_stats", STATS, payload)["topic"]
        need(topic, "topic_required", "topic is required")
        queues = self._queues.called(topic)
        consumers = self._topics.count(topic)
        if topic in self._queues.named:
            consumers = self._queues.named[topic].concurrency
        return {
            "depth": sum(queue.depth for queue in queues) + self._parked.count(topic),
            "consumer_count": consumers,
            "dlq_depth": sum(len(queue.dead) for queue in queues),
            "config": None,
        }

    async def _dlq_topics(self, _payload: bytes) -> Any:
        counts: dict[str, int] = {}
        for scope, queue in self._queues.by_scope.items():
            counts[parts_of(scope)[1]] = counts.get(parts_of(scope)[1], 0) + len(queue.dead)
        return [
            {"topic": name, "broker_type": "builtin", "message_count": count}
            for name, count in counts.items()
            if count
        ]

    async def _dlq_messages(self, payload: bytes) -> Any:
        given = read_input("engine::queue::dlq_messages", LETTERS, payload)
        need(given["topic"], "topic_required", "topic is required")
        offset = given["offset"] or 0
        limit = 50 if given["limit"] is None else given["limit"]
        found = [(job, queue) for queue in self._queues.called(given["topic"]) for job in queue.dead]
        found.sort(key=lambda pair: pair[0].failed_at, reverse=True)
        page = found[offset : offset + min(limit, MOST_LETTERS)]
        return [await queue.dead_letter(job) for job, queue in page]
