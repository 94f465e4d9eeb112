"""Parked: messages of topics without any subscriber, kept for the first one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from iii_skill.companion import Call, Change, CompanionHost
from iii_skill.errors import AdapterError, CallerError

from .jobs import Record
from .loading import not_stored
from .queues import Queues, scope_of
from .settings import QueueSettings
from .subscribers import Subscribers
from .topics import TopicSubscriber

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


class Parked:
    """The keys of what waits, by topic."""

    def __init__(
        self,
        host: CompanionHost,
        settings: QueueSettings,
        queues: Queues,
        subscribers: Subscribers,
        begin: Callable[[Coroutine[Any, Any, Any]], None],
    ) -> None:
        """`begin` runs something that nobody waits for."""
        self._host = host
        self._store = host.store
        self._most = settings.max_parked
        self._queues = queues
        self._subscribers = subscribers
        self._begin = begin
        self._keys: dict[str, dict[str, None]] = {}
        self._unparking: set[str] = set()
        """Topics whose first subscriber is given what waited for it: what comes meanwhile waits behind."""

    def waits(self, topic: str) -> bool:
        """True while messages are handed over: what comes now is parked behind them."""
        return topic in self._unparking

    def count(self, topic: str) -> int:
        """How many messages wait."""
        return len(self._keys.get(topic, ()))

    async def load(self, topic: str) -> None:
        """Take up what the store holds of a topic."""
        self._keys[topic] = dict.fromkeys(await self._store.read(self._store.keys(scope_of("parked", topic))))

    def heard(self, topic: str, change: Change) -> None:
        """Another host parked a message, or handed one over."""
        keys = self._keys.setdefault(topic, {})
        if change.new is None:
            keys.pop(change.key, None)
        else:
            keys[change.key] = None

    def park(self, topic: str, data: msgspec.Raw, call: Call) -> None:
        """Keep a message that nobody waits for; the oldest make room."""
        keys = self._keys.setdefault(topic, {})
        number = 1 + max((int(key.partition("-")[0]) for key in keys), default=0)
        key, scope = f"{number:016d}-{uuid.uuid4()}", scope_of("parked", topic)
        keys[key] = None
        if len(keys) > self._most:
            oldest = next(iter(keys))
            del keys[oldest]
            if number == self._most + 1:
                self._host.log.warning(
                    "topic '%s' has no subscriber: of its messages the last %d are kept for the first one",
                    topic,
                    self._most,
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

    def hand_over(self, subscriber: TopicSubscriber) -> None:
        """Give a first subscriber what waits for it, if anything does."""
        if self._keys.get(subscriber.topic):
            self._unparking.add(subscriber.topic)
            self._begin(self._unpark(subscriber))

    async def _unpark(self, subscriber: TopicSubscriber) -> None:
        """Hand over in order, until nothing waits any more."""
        topic = subscriber.topic
        parked = self._keys[topic]
        try:
            while parked:
                # A message whose write is under way is not in the list yet: it comes with the next one.
                for key, value in await self._store.read(self._store.list(scope_of("parked", topic))):
                    await self._hand_over(subscriber, key, value)
                    parked.pop(key, None)
                await asyncio.sleep(0)
        except (AdapterError, CallerError) as error:
            self._host.log.warning("messages of topic '%s' still wait: %s", topic, error.message)
        finally:
            self._unparking.discard(topic)

    async def _hand_over(self, subscriber: TopicSubscriber, key: str, value: bytes) -> None:
        known = self._subscribers.get(subscriber)
        assert known is not None
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
        queue = self._queues.of_subscriber(subscriber)
        queue.accept(record, lambda: stored.set_result(None), stored.set_exception)
        await stored
        await self._store.read(self._store.delete(scope_of("parked", subscriber.topic), key))
