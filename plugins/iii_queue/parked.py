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
from .subscribers import StoredSubscriber, Subscribers
from .topics import TopicSubscriber

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Seconds between tries to hand messages over while the store refuses."""

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
        self._storing: set[str] = set()
        """Of these keys the writes are under way."""
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
        # All numbers have as many digits.
        number = 1 + int(max(keys, default="0").partition("-")[0])
        key, scope = f"{number:016d}-{uuid.uuid4()}", scope_of("parked", topic)
        keys[key] = None
        self._storing.add(key)
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

        def stored(call: Call, _change: Change) -> None:
            self._storing.discard(key)
            call.succeed(None)

        def lost(call: Call, error: BaseException) -> None:
            self._storing.discard(key)
            self._keys[topic].pop(key, None)
            call.reply(not_stored(error))

        self._store.settle(self._store.set(scope, key, value), call, stored, lost, key=(scope, key))

    def hand_over(self, subscriber: TopicSubscriber) -> None:
        """Give a first subscriber what waits for it, if anything does."""
        if self._keys.get(subscriber.topic) and not self.waits(subscriber.topic):
            self._unparking.add(subscriber.topic)
            self._begin(self._unpark(subscriber))

    def go_on(self) -> None:
        """After a start: what was not handed over to the end goes to who was given the rest of it."""
        for topic in list(self._keys):
            for subscriber in self._subscribers.of(topic):
                self.hand_over(subscriber)
                break

    async def _unpark(self, subscriber: TopicSubscriber) -> None:
        """Hand over in order, until nothing waits any more."""
        topic, pause = subscriber.topic, FIRST_PAUSE_S
        try:
            while self._keys.get(topic):
                try:
                    if not await self._hand_over_stored(subscriber):
                        return
                    pause = FIRST_PAUSE_S
                except AdapterError as error:
                    if pause == FIRST_PAUSE_S:
                        self._host.log.warning("messages of topic '%s' still wait: %s", topic, error.message)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
        except CallerError as error:
            # The queue of the subscriber is full.
            self._host.log.warning("messages of topic '%s' still wait: %s", topic, error.message)
        finally:
            self._unparking.discard(topic)

    async def _hand_over_stored(self, subscriber: TopicSubscriber) -> bool:
        """Hand over what is stored; False when the subscriber was forgotten meanwhile."""
        topic = subscriber.topic
        # A message whose write is under way is not in the list yet: it comes with the next one.
        missing = self._keys[topic].keys() - self._storing
        for key, value in await self._store.read(self._store.list(scope_of("parked", topic))):
            missing.discard(key)
            known = self._subscribers.get(subscriber)
            if known is None:
                return False
            await self._hand_over(known, key, value)
            self._keys[topic].pop(key, None)
        for key in missing:
            # Another host has handed it over.
            self._keys[topic].pop(key, None)
        await asyncio.sleep(0)
        return True

    async def _hand_over(self, known: StoredSubscriber, key: str, value: bytes) -> None:
        subscriber = known.subscriber
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
