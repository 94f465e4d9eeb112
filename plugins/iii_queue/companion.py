"""Queue: named queues for jobs, topics for messages, dead letters, and the functions that look at them.

Scopes of the store are JSON arrays, so that no name can be mistaken for another: `["queue", name]` holds the
jobs of a named queue, `["topic", topic, namespace, function]` those of a subscriber, `["parked", topic]`
messages that wait for a first subscriber. `subscribers` and `definitions` hold what was registered and
defined.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from iii_skill.companion import Call, Change, Companion, CompanionHost, Failure, Family
from iii_skill.errors import AdapterError, CallerError, IiiSkillError, InputError
from iii_skill.serde.reader import read_input

from .inputs import (
    DEFINE,
    LETTERS,
    PUBLISH,
    REDRIVE,
    STATS,
    Refusal,
    enqueue_request,
    group_of,
    message_of,
    need,
)
from .jobs import Record
from .loading import Loading, not_stored
from .settings import JobLimits, NamedQueue, QueueSettings
from .topics import Admission, DurableSubscribers, Messages, Subscription, Topics, TopicSubscriber
from .work_queue import WorkQueue

_DEFINITIONS, _SUBSCRIBERS = "definitions", "subscribers"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

MOST_LETTERS = 1_000
"""Dead letters in one answer, at most."""


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


class Queue(Companion):
    """The worker `iii-queue`."""

    name = "iii-queue"
    aliases = ("queue",)
    description = "Queues with retries and dead letters, and durable topics."
    config_type = QueueSettings
    on_by_default = True

    async def start(self, host: CompanionHost, settings: QueueSettings) -> None:
        """Offer functions and trigger types and take up what the store holds.

        A store that hangs or is away holds up neither the host nor its other workers. Until it has answered
        no job starts, calls and triggers wait, and while it refuses, calls are refused.
        """
        settings.check()
        self._host, self._store, self._settings = host, host.store, settings
        self._me = str(uuid.uuid4())
        self._named: dict[str, NamedQueue] = dict(settings.queue_configs)
        self._queues: dict[str, WorkQueue] = {}
        self._topics = Topics()
        self._known: dict[str, dict[TopicSubscriber, StoredSubscriber]] = {}
        self._parked: dict[str, dict[str, None]] = {}
        self._unparking: set[str] = set()
        """Topics whose first subscriber is given what waited for it: what comes meanwhile waits behind."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._follower: asyncio.Task[None] | None = None
        self._stopping = False
        self._loading = Loading(self._load, host.log)
        if self._store.shared:
            self._follower = self._store.follow(self._followed, log=host.log, missed=self._load)
            await asyncio.sleep(0)
        self._offer()
        for trigger_type in ("durable:subscriber", "queue"):
            host.add_trigger_type(DurableSubscribers(trigger_type, host, settings, self))
        host.add_source(Messages(settings, self))
        host.on_functions(self._functions_changed)
        await self._loading.start()

    async def stop(self) -> None:
        """Start no job any more and let those that run end; the rest waits in the store."""
        self._stopping = True
        if self._follower is not None:
            self._follower.cancel()
        for task in self._tasks:
            task.cancel()
        await self._loading.stop()
        await asyncio.gather(*(queue.stop() for queue in self._queues.values()))

    def _offer(self) -> None:
        host = self._host
        topic = {"type": "string"}
        host.add_handler(
            "engine::queue::enqueue",
            self._loading.guarded(self._enqueue),
            description="Store a job for a function; what the action Enqueue of a call does.",
        )
        for function_id in ("iii::durable::publish", "enqueue"):
            host.add_handler(
                function_id,
                self._loading.guarded(self._publish),
                description="Store a message for every subscriber of a topic, also for those that are away.",
                request_schema=_object(topic=topic, data={}, required=["data", "topic"]),
            )
        for function_id, function, description in (
            ("iii::queue::redrive", self._redrive, "Give all dead letters of a queue new attempts."),
            ("iii::queue::redrive_message", self._redrive_message, "Give one dead letter new attempts."),
            ("iii::queue::discard_message", self._discard_message, "Delete one dead letter."),
            ("engine::queue::list_topics", self._list_topics, "Queues, and topics with subscribers."),
            ("engine::queue::topic_stats", self._topic_stats, "How many jobs wait, run and are dead."),
            ("engine::queue::dlq_topics", self._dlq_topics, "Queues and topics with dead letters."),
            ("engine::queue::dlq_messages", self._dlq_messages, "Dead letters, newest first."),
            ("queue::define", self._define, "Set how the jobs of a queue run; kept in the store."),
        ):
            handler = self._loading.guarded(self._answering(function_id, function))
            host.add_handler(function_id, handler, description=description)

    def _answering(self, function_id: str, function: Callable[[bytes], Any]) -> Callable[[Call], None]:
        """A handler that answers with what an async function of the payload gives."""

        async def run(call: Call) -> None:
            try:
                result = await function(call.data)
            except IiiSkillError as error:
                call.fail(error)
            except Exception as error:
                self._host.log.exception("%s failed", function_id)
                call.reply(Failure("internal_error", f"{function_id} failed inside the host: {error}"))
            else:
                call.succeed(_encode(result))

        def handler(call: Call) -> None:
            self._begin(run(call))

        return handler

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the store holds.

    async def _load(self) -> None:
        store = self._store
        for name, value in await store.read(store.list(_DEFINITIONS)):
            with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError):
                # What is in the configuration file counts more than what was defined by a call.
                self._named.setdefault(name, _decode(value, type=NamedQueue))
        for _, value in await store.read(store.list(_SUBSCRIBERS)):
            self._remember_stored(value)
        for scope in await store.scopes():
            parts = _parts(scope)
            if parts[:1] == ["parked"] and len(parts) == 2:
                self._parked[parts[1]] = dict.fromkeys(await store.read(store.keys(scope)))
            elif parts:
                queue = self._queue_at(scope)
                queue.load(await store.read(store.list(scope)))
        for name, config in self._named.items():
            self._named_queue(name).limits = config.limits()

    def _remember_stored(self, value: bytes) -> None:
        with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError):
            stored = _stored_subscriber(value)
            self._known.setdefault(stored.topic, {})[stored.subscriber] = stored

    async def _followed(self, change: Change) -> None:
        if not self._loading.over:
            # Jobs that are older may be read yet, and in a fifo queue they come first.
            await self._loading.wait()
        self._heard(change)

    def _heard(self, change: Change) -> None:
        parts = _parts(change.scope)
        if change.scope == _SUBSCRIBERS:
            if change.new is not None:
                self._remember_stored(change.new)
        elif change.scope == _DEFINITIONS:
            if change.new is not None:
                self._named[change.key] = _decode(change.new, type=NamedQueue)
                self._named_queue(change.key).limits = self._named[change.key].limits()
        elif parts[:1] == ["parked"] and len(parts) == 2:
            keys = self._parked.setdefault(parts[1], {})
            if change.new is None:
                keys.pop(change.key, None)
            else:
                keys[change.key] = None
        elif parts:
            self._queue_at(change.scope).heard(change)

    # Queues by name.

    def _queue_at(self, scope: str) -> WorkQueue:
        """The queue of a scope; it is made when it is first needed."""
        queue = self._queues.get(scope)
        if queue is None:
            parts = _parts(scope)
            settings = self._settings
            limits, is_open, admit = JobLimits(), None, None
            if parts[0] == "queue":
                limits = self._named[parts[1]].limits() if parts[1] in self._named else limits
            else:
                subscriber = TopicSubscriber(parts[1], parts[3], parts[2])
                known = self._known.get(parts[1], {}).get(subscriber)
                limits = limits if known is None else known.limits
                admit = Admission(self._host, self._topics, subscriber)

                def is_open() -> bool:
                    return self._topics.is_subscribed(subscriber)

            queue = self._queues[scope] = WorkQueue(
                self._host,
                scope,
                limits,
                me=self._me,
                lease_s=settings.lease_ms / 1000,
                max_jobs=settings.max_jobs,
                is_open=is_open,
                admit=admit,
            )
        return queue

    def _named_queue(self, name: str) -> WorkQueue:
        return self._queue_at(_scope("queue", name))

    def _subscriber_queue(self, subscriber: TopicSubscriber) -> WorkQueue:
        return self._queue_at(_scope("topic", subscriber.topic, subscriber.namespace, subscriber.function_id))

    def _queues_of(self, name: str) -> list[WorkQueue]:
        """What a name means: a queue, else the queues of all subscribers of a topic."""
        scope = _scope("queue", name)
        if name in self._named or scope in self._queues:
            return [self._queue_at(scope)]
        return [self._subscriber_queue(subscriber) for subscriber in self._subscribers(name)]

    # Jobs come in.

    def _enqueue(self, call: Call) -> None:
        try:
            given = enqueue_request(call.data)
            scope = _scope("queue", given.queue)
            queue = self._queues.get(scope)
            if queue is None:
                if given.queue not in self._named:
                    self._host.log.info(
                        "queue '%s' is defined nowhere: it runs with 3 attempts and 10 jobs at once",
                        given.queue,
                    )
                queue = self._queue_at(scope)
            record = Record(
                id=given.messageReceiptId,
                function_id=given.function_id,
                data=given.data,
                namespace=given.namespace,
                traceparent=given.traceparent,
                baggage=given.baggage,
                group=group_of(given, queue.limits),
            )
            queue.accept(
                record,
                lambda: call.succeed(_encode({"messageReceiptId": record.id})),
                lambda error: call.reply(not_stored(error)),
            )
        except CallerError as error:
            call.fail(error)

    def _publish(self, call: Call) -> None:
        try:
            message = read_input(call.function_id, PUBLISH, call.data)
            topic, data = message["topic"], msgspec.Raw(bytes(message["data"]))
            if not topic:
                raise Refusal("Topic is not set", code="topic_not_set")
            subscribers = self._subscribers(topic)
            if not subscribers or topic in self._unparking:
                self._park(topic, data, call)
                return
            left, error_told = len(subscribers), False

            def stored() -> None:
                nonlocal left
                left -= 1
                if not left and not error_told:
                    call.succeed(None)

            def lost(error: BaseException) -> None:
                nonlocal error_told
                if not error_told:
                    error_told = True
                    call.reply(not_stored(error))

            # A message is acknowledged when every copy is durable; a crash before that repeats it.
            for subscriber, known in subscribers.items():
                record = Record(
                    id=str(uuid.uuid4()),
                    function_id=subscriber.function_id,
                    namespace=subscriber.namespace,
                    data=data,
                    metadata=known.metadata,
                    condition=known.condition,
                    traceparent=call.traceparent,
                    baggage=call.baggage,
                )
                self._subscriber_queue(subscriber).accept(record, stored, lost)
        except CallerError as error:
            call.fail(error)

    # Topics.

    def subscribed(self, subscription: Subscription) -> None:
        """A trigger came: its function gets what waits for it, and all that is published from now on."""
        if not self._loading.over:
            self._loading.put_off(lambda: self.subscribed(subscription))
            return
        topic = subscription.subscriber.topic
        first = not self._subscribers(topic) and topic not in self._unparking
        self._topics.add(subscription)
        self._remember(subscription)
        queue = self._subscriber_queue(subscription.subscriber)
        queue.limits = subscription.limits
        queue.wake()
        if first and self._parked.get(topic):
            self._unparking.add(topic)
            self._begin(self._unpark(subscription.subscriber))

    def unsubscribed(self, trigger_id: str) -> None:
        """A trigger ended: what comes for its function is kept for a while."""
        if not self._loading.over:
            self._loading.put_off(lambda: self.unsubscribed(trigger_id))
            return
        gone = self._topics.remove(trigger_id)
        if gone is None:
            return
        for left in self._topics.of(gone.subscriber):
            self._subscriber_queue(gone.subscriber).limits = left.limits
        if not self._stopping:
            self._remember(gone)

    def _remember(self, subscription: Subscription) -> None:
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
        self._store.settle(
            self._store.set(_SUBSCRIBERS, subscriber.key, _encode(stored)),
            subscriber,
            lambda _subscriber, _change: None,
            lambda subscriber, error: self._host.log.warning(
                "the subscription of %s is not stored: %s", subscriber.function_id, error
            ),
            key=(_SUBSCRIBERS, subscriber.key),
        )

    def _subscribers(self, topic: str) -> dict[TopicSubscriber, StoredSubscriber]:
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
            self._begin(self._forget_subscriber(subscriber))
        return there

    async def _forget_subscriber(self, subscriber: TopicSubscriber) -> None:
        queue = self._subscriber_queue(subscriber)
        self._host.log.warning(
            "%s left topic '%s' long ago: %d messages that waited for it are dropped",
            subscriber.function_id,
            subscriber.topic,
            len(queue.jobs),
        )
        with contextlib.suppress(AdapterError):
            await queue.purge()
            await self._store.read(self._store.delete(_SUBSCRIBERS, subscriber.key))

    def _park(self, topic: str, data: msgspec.Raw, call: Call) -> None:
        """Keep a message that nobody waits for; the oldest make room."""
        keys = self._parked.setdefault(topic, {})
        number = 1 + max((int(key.partition("-")[0]) for key in keys), default=0)
        key, scope = f"{number:016d}-{uuid.uuid4()}", _scope("parked", topic)
        keys[key] = None
        if len(keys) > self._settings.max_parked:
            oldest = next(iter(keys))
            del keys[oldest]
            if number == self._settings.max_parked + 1:
                self._host.log.warning(
                    "topic '%s' has no subscriber: of its messages the last %d are kept for the first one",
                    topic,
                    self._settings.max_parked,
                )
            self._begin(self._store.read(self._store.delete(scope, oldest)))
        value = _encode({"data": data, "traceparent": call.traceparent, "baggage": call.baggage})
        self._store.settle(
            self._store.set(scope, key, value),
            call,
            lambda call, _change: call.succeed(None),
            lambda call, error: call.reply(not_stored(error)),
            key=(scope, key),
        )

    async def _unpark(self, subscriber: TopicSubscriber) -> None:
        """Hand over what waited for a first subscriber, in order, until nothing waits any more."""
        topic = subscriber.topic
        parked = self._parked[topic]
        try:
            while parked:
                # A message whose write is under way is not in the list yet: it comes with the next one.
                for key, value in await self._store.read(self._store.list(_scope("parked", topic))):
                    await self._hand_over(subscriber, key, value)
                    parked.pop(key, None)
                await asyncio.sleep(0)
        except (AdapterError, CallerError) as error:
            self._host.log.warning("messages of topic '%s' still wait: %s", topic, error.message)
        finally:
            self._unparking.discard(topic)

    async def _hand_over(self, subscriber: TopicSubscriber, key: str, value: bytes) -> None:
        known = self._known[subscriber.topic][subscriber]
        message = _decode(value, type=dict[str, msgspec.Raw])
        record = Record(
            id=key.partition("-")[2],
            function_id=subscriber.function_id,
            namespace=subscriber.namespace,
            data=message["data"],
            metadata=known.metadata,
            condition=known.condition,
            traceparent=_decode(message["traceparent"]),
            baggage=_decode(message["baggage"]),
        )
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._subscriber_queue(subscriber)
        queue.accept(record, lambda: stored.set_result(None), stored.set_exception)
        await stored
        await self._store.read(self._store.delete(_scope("parked", subscriber.topic), key))

    def _functions_changed(self) -> None:
        for queue in list(self._queues.values()):
            queue.wake()

    # Functions.

    async def _redrive(self, payload: bytes) -> Any:
        name = read_input("iii::queue::redrive", REDRIVE, payload)["queue"]
        need(name, "queue_not_set", "Queue name is required")
        count = sum([await queue.redrive(lambda _job: True) for queue in self._queues_of(name)])
        return {"queue": name, "redriven": count}

    async def _redrive_message(self, payload: bytes) -> Any:
        name, message_id = message_of("iii::queue::redrive_message", payload)
        count = sum([await q.redrive(lambda job: job.id == message_id) for q in self._queues_of(name)])
        return {"queue": name, "message_id": message_id, "redriven": count}

    async def _discard_message(self, payload: bytes) -> Any:
        name, message_id = message_of("iii::queue::discard_message", payload)
        count = sum([await q.discard(lambda job: job.id == message_id) for q in self._queues_of(name)])
        return {"queue": name, "message_id": message_id, "redriven": count}

    async def families(self) -> Sequence[Family]:
        """Jobs of each queue by what they wait for."""
        samples: list[tuple[dict[str, str], int]] = []
        for scope, queue in list(self._queues.items()):
            kind, name, *subscriber = _parts(scope)
            states = await queue.states()
            labels = {"kind": kind, "queue": name, "subscriber": "/".join(filter(None, subscriber))}
            samples += [({**labels, "state": state}, count) for state, count in states.items()]
        return [Family("iii_queue_jobs", "gauge", "Jobs of a queue by what they wait for.", samples)]

    async def _list_topics(self, _payload: bytes) -> Any:
        rows = [
            {"name": name, "broker_type": "builtin", "subscriber_count": len(found)}
            for name, found in self._topics.by_topic.items()
        ]
        for scope, queue in self._queues.items():
            parts = _parts(scope)
            if parts[0] == "queue":
                concurrency = queue.limits.concurrency
                rows.append({"name": parts[1], "broker_type": "builtin", "subscriber_count": concurrency})
        return rows

    async def _topic_stats(self, payload: bytes) -> Any:
        topic = read_input("engine::queue::topic_stats", STATS, payload)["topic"]
        need(topic, "topic_required", "topic is required")
        queues = self._queues_of(topic)
        consumers = len(self._topics.by_topic.get(topic, {}))
        if topic in self._named:
            consumers = self._named[topic].concurrency
        return {
            "depth": sum(queue.depth for queue in queues) + len(self._parked.get(topic, {})),
            "consumer_count": consumers,
            "dlq_depth": sum(len(queue.dead) for queue in queues),
            "config": None,
        }

    async def _dlq_topics(self, _payload: bytes) -> Any:
        counts: dict[str, int] = {}
        for scope, queue in self._queues.items():
            counts[_parts(scope)[1]] = counts.get(_parts(scope)[1], 0) + len(queue.dead)
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
        found = [(job, queue) for queue in self._queues_of(given["topic"]) for job in queue.dead]
        found.sort(key=lambda pair: pair[0].failed_at, reverse=True)
        page = found[offset : offset + min(limit, MOST_LETTERS)]
        return [await queue.dead_letter(job) for job, queue in page]

    async def _define(self, payload: bytes) -> Any:
        given = read_input("queue::define", DEFINE, payload)
        name = given["queue"]
        need(name, "queue_not_set", "Queue name is required")
        try:
            config = _decode(given["config"], type=NamedQueue)
        except msgspec.ValidationError as error:
            raise InputError(f"Failed to deserialize input for queue::define: {error}") from None
        fault = config.fault(name)
        if fault is not None:
            raise InputError(fault)
        changed = self._named.get(name) != config
        if changed:
            await self._store.read(self._store.set(_DEFINITIONS, name, _encode(config)))
            self._named[name] = config
            self._named_queue(name).limits = config.limits()
        return {"queue": name, "changed": changed}


def _scope(*parts: str | None) -> str:
    return _encode(parts).decode()


def _parts(scope: str) -> list[Any]:
    """The parts of a scope of jobs or parked messages; none for other scopes."""
    if not scope.startswith("["):
        return []
    parts = _decode(scope)
    assert isinstance(parts, list)
    return parts


def _object(*, required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}
