"""One client of the subscription port: it joins and leaves groups or items, and gets their events.

What a client sends is worked on in order: a join waits for the handlers of `stream:join`, and what comes
behind it waits too. After a join the first message is `sync`, the state as it is; every later event follows,
in the order in which listeners inside the host get it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from iii_skill.companion import (
    CompanionHost,
    Failure,
    Source,
    WebSocketHandler,
    WebSocketPeer,
    WebSocketRequest,
)

from .events import StreamEvent, envelope
from .triggers import JoinTriggers

MAX_SUBSCRIPTIONS = 10_000
MAX_WAITING = 1_000
"""Messages of one client that may wait behind a slow join."""

MAX_EARLY = 10_000
"""Events that may wait for the `sync` of a subscription."""

POLICY, TRY_AGAIN_LATER = 1008, 1013

_encode = msgspec.json.Encoder().encode


class _Topic(msgspec.Struct, frozen=True):
    subscriptionId: str
    streamName: str
    groupId: str
    id: str | None = None


class _Message(msgspec.Struct, frozen=True):
    type: str
    data: _Topic


_message = msgspec.json.Decoder(_Message).decode


class Streams(Protocol):
    """What a client needs of the companion."""

    asked: JoinTriggers
    joined: Source
    left: Source
    listeners: list[Callable[[StreamEvent, bytes], None]]

    def snapshot(self, stream: str, group: str, item: str | None) -> Awaitable[bytes]:
        """The items of a group as an array, or one item or null."""


class _Subscription:
    """One join. What happens before its `sync` is sent waits in `early`."""

    def __init__(self, topic: _Topic) -> None:
        self.topic = topic
        self.early: list[bytes] | None = []

    def wants(self, event: StreamEvent) -> bool:
        topic = self.topic
        return (
            topic.streamName == event.stream
            and topic.groupId == event.group
            and topic.id in (None, event.item)
        )


class SubscriptionClient(WebSocketHandler):
    """One connection."""

    def __init__(
        self, host: CompanionHost, streams: Streams, request: WebSocketRequest, auth_function: str | None
    ) -> None:
        self._host = host
        self._streams = streams
        self._request = request
        self._auth_function = auth_function
        self._context: Any = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None

    def opened(self, peer: WebSocketPeer) -> None:
        """Ask who it is, then take what it sends."""
        self._peer = peer
        self._request = peer.request
        self._streams.listeners.append(self._heard)
        self._worker = asyncio.ensure_future(self._work())

    def received(self, text: bytes) -> None:
        """Keep a message until its turn comes."""
        try:
            self._inbox.put_nowait(text)
        except asyncio.QueueFull:
            self._peer.close(POLICY, "more messages than can be worked on")

    def closed(self) -> None:
        """Tell of every subscription that ended."""
        self._streams.listeners.remove(self._heard)
        if self._worker is not None:
            self._worker.cancel()
        for subscription in self._subscriptions.values():
            self._leave(subscription.topic)
        self._subscriptions.clear()

    async def _work(self) -> None:
        if not await self._let_in():
            return
        while True:
            text = await self._inbox.get()
            try:
                message = _message(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # As on the engine: what is no message is passed over.
            try:
                if message.type == "join":
                    await self._join(message.data)
                elif message.type == "leave":
                    self._subscriptions.pop(message.data.subscriptionId, None)
                    self._leave(message.data)
            except Exception:
                self._host.log.exception("a subscription to %s failed", message.data.streamName)

    async def _let_in(self) -> bool:
        """Ask the function that knows who may come; an error, null or no function refuses."""
        if self._auth_function is None:
            return True
        request = self._request
        try:
            answer = await self._host.call(
                self._auth_function,
                {
                    "headers": request.headers,
                    "path": request.path,
                    "query_params": request.query,
                    "addr": request.address,
                },
            )
        except Exception as error:
            self._host.log.warning("%s refused a client: %s", self._auth_function, error)
            answer = None
        if not isinstance(answer, dict):
            self._peer.close(POLICY, "not authorized")
            return False
        self._context = answer.get("context")
        return True

    async def _join(self, topic: _Topic) -> None:
        event = self._presence(topic)
        for trigger in list(self._streams.asked.triggers.values()):
            outcome = await self._host.deliver(trigger, event)
            if outcome is None or isinstance(outcome, Failure) or outcome.value is None:
                continue
            verdict = msgspec.json.decode(outcome.value)
            if isinstance(verdict, dict) and verdict.get("unauthorized") is True:
                self._send(topic, "unauthorized", None)
                return
        if topic.subscriptionId not in self._subscriptions and len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            self._peer.close(POLICY, f"more than {MAX_SUBSCRIPTIONS} subscriptions")
            return
        subscription = self._subscriptions[topic.subscriptionId] = _Subscription(topic)
        self._streams.joined.happened(object(), event)
        state = await self._streams.snapshot(topic.streamName, topic.groupId, topic.id)
        self._send(topic, "sync", state)
        early, subscription.early = subscription.early, None
        for text in early or ():
            self._peer.send(text)

    def _heard(self, event: StreamEvent, text: bytes) -> None:
        """Pass an event on, once for each subscription that wants it."""
        for subscription in self._subscriptions.values():
            if subscription.wants(event):
                if subscription.early is None:
                    self._peer.send(text)
                elif len(subscription.early) < MAX_EARLY:
                    subscription.early.append(text)
                else:
                    self._peer.close(TRY_AGAIN_LATER, "events come faster than the state can be read")

    def _leave(self, topic: _Topic) -> None:
        self._streams.left.happened(object(), self._presence(topic))

    def _send(self, topic: _Topic, kind: str, data: bytes | None) -> None:
        now = self._host.clock.now_ms()
        self._peer.send(envelope(topic.streamName, topic.groupId, topic.id, kind, data, now))

    def _presence(self, topic: _Topic) -> bytes:
        return _encode(
            {
                "subscription_id": topic.subscriptionId,
                "stream_name": topic.streamName,
                "group_id": topic.groupId,
                "id": topic.id,
                "context": self._context,
            }
        )
