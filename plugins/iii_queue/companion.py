"""Queue: named queues for jobs, topics for messages, dead letters, and the functions that look at them."""

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

from .administration import Administration
from .inputs import DEFINE, PUBLISH, Refusal, enqueue_request, group_of, need
from .jobs import Record
from .loading import Loading, not_stored
from .parked import Parked
from .queues import Queues, parts_of, scope_of
from .settings import NamedQueue, QueueSettings
from .subscribers import SUBSCRIBERS, Subscribers
from .topics import DurableSubscribers, Messages, Subscription, Topics, TopicSubscriber

_DEFINITIONS = "definitions"
"""The scope of queues that a call defined."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


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
        self._host, self._store = host, host.store
        self._topics = Topics()
        self._subscribers = Subscribers(
            host, settings, self._topics, lambda gone: self._begin(self._forget_subscriber(gone))
        )
        self._queues = Queues(host, settings, self._topics, self._subscribers, me=str(uuid.uuid4()))
        self._parked = Parked(host, settings, self._queues, self._subscribers, self._begin)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._follower: asyncio.Task[None] | None = None
        self._stopping = False
        self._waking = False
        """The queues are woken in the next turn."""
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
        self._subscribers.stop()
        await self._loading.stop()
        await asyncio.gather(*(queue.stop() for queue in self._queues.by_scope.values()))

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
            *Administration(self._queues, self._topics, self._parked).functions(),
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
                self._host.log.exception("%s failed", function_id, extra={"traceparent": call.traceparent})
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
                self._queues.named.setdefault(name, _decode(value, type=NamedQueue))
        for _, value in await store.read(store.list(SUBSCRIBERS)):
            self._subscribers.take_up(value)
        for scope in await store.scopes():
            parts = parts_of(scope)
            if parts[:1] == ["parked"] and len(parts) == 2:
                await self._parked.load(parts[1])
            elif parts:
                queue = self._queues.at(scope)
                queue.load(await store.read(store.list(scope)))
        for name, config in list(self._queues.named.items()):
            self._queues.define(name, config)
        self._parked.go_on()

    async def _followed(self, change: Change) -> None:
        if not self._loading.over:
            # Jobs that are older may be read yet, and in a fifo queue they come first.
            await self._loading.wait()
        self._heard(change)

    def _heard(self, change: Change) -> None:
        parts = parts_of(change.scope)
        if change.scope == SUBSCRIBERS:
            if change.new is not None:
                self._subscribers.take_up(change.new)
        elif change.scope == _DEFINITIONS:
            if change.new is not None:
                self._queues.define(change.key, _decode(change.new, type=NamedQueue))
        elif parts[:1] == ["parked"] and len(parts) == 2:
            self._parked.heard(parts[1], change)
        elif parts:
            self._queues.at(change.scope).heard(change)

    # Jobs come in.

    def _enqueue(self, call: Call) -> None:
        try:
            given = enqueue_request(call.data)
            scope = scope_of("queue", given.queue)
            queue = self._queues.by_scope.get(scope)
            if queue is None:
                if given.queue not in self._queues.named:
                    self._host.log.info(
                        "queue '%s' is defined nowhere: it runs with 3 attempts and 10 jobs at once",
                        given.queue,
                    )
                queue = self._queues.at(scope)
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
            subscribers = self._subscribers.of(topic)
            if not subscribers or self._parked.waits(topic):
                self._parked.park(topic, data, call)
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
                self._queues.of_subscriber(subscriber).accept(record, stored, lost)
        except CallerError as error:
            call.fail(error)

    # Topics.

    def subscribed(self, subscription: Subscription) -> None:
        """A trigger came: its function gets what waits for it, and all that is published from now on."""
        if not self._loading.over:
            self._loading.put_off(lambda: self.subscribed(subscription))
            return
        topic = subscription.subscriber.topic
        # Before anybody is forgotten: who comes back late, but before that, still gets what waits for it.
        self._topics.add(subscription)
        first = not self._subscribers.any_of(topic)
        self._subscribers.remember(subscription)
        queue = self._queues.of_subscriber(subscription.subscriber)
        queue.limits = subscription.limits
        queue.wake()
        if first:
            self._parked.hand_over(subscription.subscriber)

    def unsubscribed(self, trigger_id: str) -> None:
        """A trigger ended: what comes for its function is kept for a while."""
        if not self._loading.over:
            self._loading.put_off(lambda: self.unsubscribed(trigger_id))
            return
        gone = self._topics.remove(trigger_id)
        if gone is None:
            return
        left = self._topics.latest(gone.subscriber)
        if left is not None:
            self._queues.of_subscriber(gone.subscriber).limits = left.limits
        if not self._stopping:
            self._subscribers.remember(gone)

    async def _forget_subscriber(self, subscriber: TopicSubscriber) -> None:
        queue = self._queues.of_subscriber(subscriber)
        self._host.log.warning(
            "%s left topic '%s' long ago: %d messages that waited for it are dropped",
            subscriber.function_id,
            subscriber.topic,
            len(queue.jobs),
        )
        with contextlib.suppress(AdapterError):
            await queue.purge()
            if self._subscribers.get(subscriber) is None:
                # It has not come back meanwhile.
                await self._store.read(self._store.delete(SUBSCRIBERS, subscriber.key))

    def _functions_changed(self) -> None:
        """Wake the queues once for all functions that come or go in this turn: there may be many of both."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        if self._stopping:
            return
        for queue in list(self._queues.by_scope.values()):
            queue.wake()

    # Functions.

    async def families(self) -> Sequence[Family]:
        """Jobs of each queue by what they wait for."""
        samples: list[tuple[dict[str, str], int]] = []
        for scope, queue in list(self._queues.by_scope.items()):
            kind, name, *subscriber = parts_of(scope)
            states = await queue.states()
            labels = {"kind": kind, "queue": name, "subscriber": "/".join(filter(None, subscriber))}
            samples += [({**labels, "state": state}, count) for state, count in states.items()]
        return [Family("iii_queue_jobs", "gauge", "Jobs of a queue by what they wait for.", samples)]

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
        changed = self._queues.named.get(name) != config
        if changed:
            await self._store.read(self._store.set(_DEFINITIONS, name, _encode(config)))
            self._queues.define(name, config)
        return {"queue": name, "changed": changed}


def _object(*, required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}
