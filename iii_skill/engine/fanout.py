"""Fire triggers: condition, then handler, in order per lane, one slow handler never holding back others.

A lane is one trigger and one key: its next event starts when the handler has answered or its time is up.
Lanes do not wait for each other. Delivery is at most once: errors, time-outs and events beyond the bound
are logged, never repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from iii_skill.calls import Call, Outcome, Result
from iii_skill.engine.deadlines import Deadlines
from iii_skill.engine.ids import fresh_id
from iii_skill.triggers import Trigger

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 30.0
"""Seconds a handler (condition included) may take before the lane goes on without it."""

PENDING_LIMIT = 64 * 1024 * 1024
"""Bytes of events that may wait in lanes; beyond that new events are dropped and the drop is logged."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of one trigger: `payload` is encoded JSON, `condition` a function id or None."""

    trigger: Trigger
    payload: bytes
    condition: str | None


class _Lane:
    __slots__ = ("active", "call", "key", "token", "waiting")

    def __init__(self, key: tuple[str, Hashable]) -> None:
        self.key = key
        self.waiting: deque[Event] = deque()
        self.active: Event | None = None
        self.call: Call | None = None
        self.token = 0


class Fanout:
    """The lanes of all triggers inside the host. `invoke` and `abandon` are the engine's."""

    def __init__(
        self,
        invoke: Callable[[Call], None],
        *,
        abandon: Callable[[Call], None] = lambda _call: None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._invoke = invoke
        self._abandon = abandon
        # By trigger and then by lane: a trigger that ends touches its own lanes only.
        self._lanes: dict[str, dict[Hashable, _Lane]] = {}
        # Lanes whose handler or condition is out.
        self._running: Deadlines[_Lane] = Deadlines(timeout_s, self._expired)
        self._pending = 0
        self._dropped = 0

    @property
    def active(self) -> int:
        """How many handlers or conditions are out."""
        return len(self._running)

    @property
    def busy(self) -> bool:
        """True while events are out or wait in a lane."""
        return bool(self._lanes)

    def fire(self, trigger: Trigger, lane: Hashable, payload: bytes, condition: str | None = None) -> None:
        """Call the trigger's function with `payload`, after every earlier event of the same lane."""
        event = Event(trigger, payload, condition)
        lanes = self._lanes.get(trigger.id)
        if lanes is None:
            lanes = self._lanes[trigger.id] = {}
        found = lanes.get(lane)
        if found is None:
            found = lanes[lane] = _Lane((trigger.id, lane))
            self._start(found, event)
            return
        if self._pending + len(payload) > PENDING_LIMIT:
            self._dropped += 1
            if self._dropped == 1:
                logger.warning(
                    "events wait faster than handlers take them (function %s): dropping new ones",
                    trigger.function_id,
                )
            return
        self._pending += len(payload)
        found.waiting.append(event)

    def forget(self, trigger_id: str) -> None:
        """The trigger ended: what still waits for it is dropped; a running handler is left to end."""
        for lane in self._lanes.get(trigger_id, {}).values():
            self._pending -= sum(len(event.payload) for event in lane.waiting)
            lane.waiting.clear()

    def close(self) -> None:
        """Stop the clock and forget everything."""
        self._lanes.clear()
        self._running.close()
        self._pending = 0

    def _start(self, lane: _Lane, event: Event) -> None:
        lane.active = event
        lane.token += 1
        self._running.start(lane)
        token = lane.token
        trigger = event.trigger
        if event.condition is None:
            self._handle(lane, token, event)
            return
        lane.call = Call(
            event.condition,
            event.payload,
            lambda outcome: self._judged(lane, token, outcome),
            trigger.namespace,
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
        logger.warning(
            "condition %s of trigger %s failed, its handler is skipped: %s",
            event.condition,
            event.trigger.id,
            getattr(outcome, "message", outcome),
        )
        self._next(lane)

    def _handle(self, lane: _Lane, token: int, event: Event) -> None:
        trigger = event.trigger
        lane.call = Call(
            trigger.function_id,
            event.payload,
            lambda outcome: self._handled(lane, token, outcome),
            trigger.namespace,
            None,
            trigger.metadata,
            invocation_id=fresh_id(),
        )
        self._invoke(lane.call)

    def _handled(self, lane: _Lane, token: int, outcome: Outcome) -> None:
        if lane.token != token or lane.active is None:
            return
        if type(outcome) is not Result:
            logger.warning(
                "handler %s of trigger %s failed: %s",
                lane.active.trigger.function_id,
                lane.active.trigger.id,
                getattr(outcome, "message", outcome),
            )
        self._next(lane)

    def _next(self, lane: _Lane) -> None:
        lane.active = lane.call = None
        self._running.stop(lane)
        if not lane.waiting:
            self._end(lane)
            if self._dropped and not self._pending:
                logger.warning("%d events were dropped", self._dropped)
                self._dropped = 0
            return
        event = lane.waiting.popleft()
        self._pending -= len(event.payload)
        # Not at once: a handler inside the host that answers at once would recurse.
        asyncio.get_running_loop().call_soon(self._start, lane, event)

    def _end(self, lane: _Lane) -> None:
        trigger_id, key = lane.key
        lanes = self._lanes.get(trigger_id)
        if lanes is not None:
            lanes.pop(key, None)
            if not lanes:
                del self._lanes[trigger_id]

    def _expired(self, lane: _Lane) -> None:
        event = lane.active
        assert event is not None
        lane.token += 1
        if lane.call is not None:
            self._abandon(lane.call)
        logger.warning(
            "handler %s of trigger %s did not answer in %g s; going on without it",
            event.trigger.function_id,
            event.trigger.id,
            self._running.seconds,
        )
        self._next(lane)
