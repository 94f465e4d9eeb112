"""Call subscribers: condition, then handler, in order per lane, one slow handler never holding back others.

A lane is one subscriber and one key: its next event starts when the handler has answered or its time is up.
Lanes wait for each other only where the subscriber bounds what may be out at once. Delivery is at most once:
errors, time-outs and events beyond the bounds are logged, never repeated.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

import msgspec

from iii_skill.calls import CHAIN, TRACE, Call, Failure, Outcome, Result
from iii_skill.engine.activity import Activity
from iii_skill.engine.deadlines import Deadlines
from iii_skill.engine.ids import fresh_id
from iii_skill.triggers import Subscriber

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 30.0
"""Seconds a handler (condition included) may take before the lane goes on without it."""

PENDING_LIMIT = 64 * 1024 * 1024
"""Bytes of events that may wait in lanes; beyond that new events are dropped and the drop is logged."""


LONGEST_CHAIN = 8
"""Triggers in a row whose functions are all inside the host; what comes then goes round in circles."""

QUEUE_LIMIT = 10_000
"""Events that may wait for one subscriber with a bound on what is out at once."""


class Unordered(enum.Enum):
    """The type of UNORDERED."""

    UNORDERED = "unordered"


UNORDERED: Final = Unordered.UNORDERED
"""The lane of events that start in order and do not wait for each other's end."""


class Context(msgspec.Struct, frozen=True, gc=False):
    """What goes with the call of an observer's target beside its payload."""

    invocation_id: str
    caller: bytes
    depth: int
    activation: bytes
    traceparent: str | None = None
    baggage: str | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    """One event of one subscriber: `payload` is encoded JSON, `condition` a function id or None."""

    payload: bytes
    condition: str | None
    context: Context | None
    chain: int
    trace: str | None


def _of_trace(event: _Event) -> dict[str, str | None]:
    """What a log line about an event is given."""
    return {"traceparent": event.trace if event.context is None else event.context.traceparent}


class _Lane:
    __slots__ = ("active", "call", "key", "queue", "token", "waiting")

    def __init__(self, queue: _Queue, key: Hashable) -> None:
        self.queue = queue
        self.key = key
        self.waiting: deque[_Event] = deque()
        self.active: _Event | None = None
        self.call: Call | None = None
        self.token = 0
        """Another one for each event, and where its time is up: an answer with an old one comes too late."""


class _Queue:
    """What is out and what waits for one subscriber. A lane is out, or in `ready`, or nowhere."""

    __slots__ = ("ended", "lanes", "name", "out", "ready", "starting", "subscriber", "waiting")

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.name = subscriber.id
        self.lanes: dict[Hashable, _Lane] = {}
        self.ready: deque[_Lane] = deque()
        self.out = 0
        self.starting = 0
        """Of those that are out: chosen, and started in the next turn of the loop."""
        self.waiting = 0
        self.ended = False
        """The subscriber ended: lanes that are out still answer, and nothing follows them."""

    @property
    def full(self) -> bool:
        """True while nothing more may be out."""
        limit = self.subscriber.max_in_flight
        return limit is not None and self.out >= limit


class Fanout:
    """The lanes of all subscribers inside the host. `invoke` and `abandon` are the engine's."""

    def __init__(
        self,
        invoke: Callable[[Call], None],
        *,
        abandon: Callable[[Call], None] = lambda _call: None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._invoke = invoke
        self._abandon = abandon
        self.failed: Callable[[str], None] = lambda _code: None
        """Told the codes of its calls that failed."""
        self.on_failure: Callable[[Subscriber, Failure], None] = lambda _subscriber, _failure: None
        """Called when the function of a subscriber answered with an error, or could not be called."""
        self.activity: Activity | None = None
        """What is recorded of all calls, once somebody asked for it."""
        # By subscriber and then by lane: one that ends touches its own lanes only.
        self._queues: dict[str, _Queue] = {}
        # Lanes whose handler or condition is out.
        self._running: Deadlines[_Lane] = Deadlines(timeout_s, self._expired)
        self._pending = 0
        self._dropped = 0

    @property
    def active(self) -> int:
        """How many handlers or conditions are out."""
        return len(self._running)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that wait in lanes."""
        return self._pending

    @property
    def busy(self) -> bool:
        """True while events are out or wait in a lane."""
        return bool(self._queues)

    @property
    def loads(self) -> list[tuple[Subscriber, int, int]]:
        """The subscribers that have calls out or waiting, how many are out, and how many wait."""
        return [(queue.subscriber, queue.out, queue.waiting) for queue in self._queues.values()]

    def load(self, subscriber_id: str) -> tuple[int, int]:
        """How many calls of a subscriber are out, and how many wait."""
        queue = self._queues.get(subscriber_id)
        return (0, 0) if queue is None else (queue.out, queue.waiting)

    def fire(
        self,
        subscriber: Subscriber,
        lane: Hashable,
        payload: bytes,
        condition: str | None = None,
        context: Context | None = None,
    ) -> bool:
        """Call the subscriber's function, after every earlier event of the lane; False: it was dropped."""
        chain = CHAIN.get()
        if chain >= LONGEST_CHAIN:
            logger.warning(
                "%d triggers in a row fired one another inside the host: the event for %s is dropped",
                chain,
                subscriber.function_id,
            )
            return False
        if self.activity is not None:
            self.activity.fired(subscriber.id)
        event = _Event(payload, condition, context, chain, TRACE.get())
        queue = self._queues.get(subscriber.id)
        if queue is None:
            queue = self._queues[subscriber.id] = _Queue(subscriber)
        # Where nothing of the lane is out or waits, and the subscriber has room, the event starts now.
        found = None if lane is UNORDERED else queue.lanes.get(lane)
        if found is None and not queue.full:
            found = _Lane(queue, lane)
            if lane is not UNORDERED:
                queue.lanes[lane] = found
            queue.out += 1
            if queue.starting:
                # Others that came before it start in the next turn of the loop.
                self._start_soon(found, event)
            else:
                self._start(found, event)
            return True
        if self._pending + len(payload) > PENDING_LIMIT or (
            queue.waiting >= QUEUE_LIMIT and subscriber.max_in_flight is not None
        ):
            self._drop(subscriber)
            return False
        # Else it waits: behind the event of its lane that is out, or in a lane that waits for room.
        if found is None:
            found = _Lane(queue, lane)
            if lane is not UNORDERED:
                queue.lanes[lane] = found
            queue.ready.append(found)
        self._pending += len(payload)
        queue.waiting += 1
        found.waiting.append(event)
        return True

    def take_slot(self, subscriber: Subscriber) -> Callable[[], None] | None:
        """Count a call that somebody else makes for the subscriber; gives what ends it, None when full."""
        queue = self._queues.get(subscriber.id)
        if queue is None:
            queue = self._queues[subscriber.id] = _Queue(subscriber)
        if queue.full:
            return None
        queue.out += 1
        return lambda: self._freed(queue)

    def let_finish(self, subscriber_id: str) -> None:
        """The subscriber ended, and what waits for it is still delivered; its id may be used again."""
        queue = self._queues.pop(subscriber_id, None)
        if queue is not None:
            queue.name = f"{subscriber_id} {fresh_id()}"
            self._queues[queue.name] = queue

    def forget(self, subscriber_id: str) -> None:
        """The subscriber ended: what still waits for it is dropped; a running handler is left to end."""
        if self.activity is not None:
            self.activity.forget(subscriber_id)
        queue = self._queues.pop(subscriber_id, None)
        if queue is None:
            return
        queue.ended = True
        for lane in (*queue.lanes.values(), *queue.ready):
            self._pending -= sum(len(event.payload) for event in lane.waiting)
            lane.waiting.clear()
        queue.ready.clear()
        queue.waiting = 0

    def close(self) -> None:
        """Stop the clock and forget everything."""
        self._queues.clear()
        self._running.close()
        self._pending = 0

    def _drop(self, subscriber: Subscriber) -> None:
        self._dropped += 1
        if self.activity is not None:
            self.activity.dropped(subscriber.id)
        if self._dropped == 1:
            logger.warning(
                "events wait faster than handlers take them (function %s): dropping new ones",
                subscriber.function_id,
            )

    def _start_soon(self, lane: _Lane, event: _Event) -> None:
        """Not at once: a handler inside the host that answers at once would recurse."""
        lane.queue.starting += 1
        asyncio.get_running_loop().call_soon(self._start_late, lane, event)

    def _start_late(self, lane: _Lane, event: _Event) -> None:
        lane.queue.starting -= 1
        # It may have ended between the turn of the loop that chose the event and this one.
        if not lane.queue.ended:
            self._start(lane, event)

    def _start(self, lane: _Lane, event: _Event) -> None:
        lane.active = event
        lane.token += 1
        self._running.start(lane)
        token = lane.token
        if event.condition is None:
            self._handle(lane, token, event)
            return
        lane.call = Call(
            event.condition,
            event.payload,
            lambda outcome: self._judged(lane, token, outcome),
            lane.queue.subscriber.namespace,
            invocation_id=fresh_id(),
        )
        self._invoke(lane.call)

    def _judged(self, lane: _Lane, token: int, outcome: Outcome) -> None:
        if lane.token != token or lane.active is None:
            return
        event = lane.active
        if type(outcome) is Result:
            if outcome.value == b"false":
                self._next(lane)
            else:
                self._handle(lane, token, event)
            return
        if isinstance(outcome, Failure):
            self.failed(outcome.code)
        text = getattr(outcome, "message", outcome)
        logger.warning(
            "condition %s of %s failed, its handler is skipped: %s",
            event.condition,
            lane.queue.subscriber.id,
            text,
            extra=_of_trace(event),
        )
        if self.activity is not None:
            self.activity.failed(lane.queue.subscriber.id, f"condition {event.condition}: {text}")
        self._next(lane)

    def _handle(self, lane: _Lane, token: int, event: _Event) -> None:
        subscriber, context = lane.queue.subscriber, event.context
        call = lane.call = Call(
            subscriber.function_id,
            event.payload,
            lambda outcome: self._handled(lane, token, outcome),
            subscriber.namespace,
            None,
            subscriber.metadata,
        )
        call.chain = event.chain + 1
        if context is None:
            call.invocation_id, call.traceparent = fresh_id(), event.trace
        else:
            call.invocation_id, call.caller = context.invocation_id, context.caller
            call.depth, call.activation = context.depth, context.activation
            call.traceparent, call.baggage = context.traceparent, context.baggage
        self._invoke(call)

    def _handled(self, lane: _Lane, token: int, outcome: Outcome) -> None:
        if lane.token != token or lane.active is None:
            return
        if type(outcome) is Failure:
            self.failed(outcome.code)
            subscriber = lane.queue.subscriber
            logger.warning(
                "handler %s of %s failed: %s",
                subscriber.function_id,
                subscriber.id,
                outcome.message,
                extra=_of_trace(lane.active),
            )
            if self.activity is not None:
                self.activity.failed(subscriber.id, f"{outcome.code}: {outcome.message}")
            self.on_failure(subscriber, outcome)
        self._next(lane)

    def _next(self, lane: _Lane) -> None:
        queue = lane.queue
        lane.active = lane.call = None
        self._running.stop(lane)
        if lane.waiting:
            # Behind the lanes that wait already: where room is bounded, they take turns.
            queue.ready.append(lane)
        elif lane.key is not UNORDERED:
            queue.lanes.pop(lane.key, None)
        self._freed(queue)

    def _freed(self, queue: _Queue) -> None:
        """One call less is out: what waits may start."""
        queue.out -= 1
        if queue.ended:
            # What waited was dropped with it, and its id may stand for another queue by now.
            return
        while queue.ready and not queue.full:
            lane = queue.ready.popleft()
            event = lane.waiting.popleft()
            self._pending -= len(event.payload)
            queue.waiting -= 1
            queue.out += 1
            self._start_soon(lane, event)
        if not queue.out:
            self._queues.pop(queue.name, None)
        if self._dropped and not self._pending:
            logger.warning("%d events were dropped", self._dropped)
            self._dropped = 0

    def _expired(self, lane: _Lane) -> None:
        # The answer may still come, and then counts no more.
        lane.token += 1
        if lane.call is not None:
            self._abandon(lane.call)
        self.failed("TIMEOUT")
        subscriber = lane.queue.subscriber
        logger.warning(
            "handler %s of %s did not answer in %g s; going on without it",
            subscriber.function_id,
            subscriber.id,
            self._running.seconds,
            extra=None if lane.active is None else _of_trace(lane.active),
        )
        if self.activity is not None:
            self.activity.failed(subscriber.id, f"no answer in {self._running.seconds:g} s")
        self._next(lane)
