"""Delivery: calls that are observed, and the calls of targets that follow.

A routed call is watched from before it is made until it was answered; then, after its caller, those who
observe it are called. Calls inside a worker come as reports, judged by the worker already.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from iii_skill.calls import Call, Failure, Outcome, no_reply
from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import UNORDERED, Context
from iii_skill.engine.functions import NOT_FOUND, Function
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.workers import BUSY, TOO_LARGE, Worker
from iii_skill.filters.index import FilterIndex
from iii_skill.observers.observation import Observation, activation, engine_as_caller, payload
from iii_skill.observers.observer import Observer, ObserverState
from iii_skill.protocol.connection import UNREADABLE
from iii_skill.protocol.messages import Deliver, InvocationsObserved, ObservedCall, Outcomes
from iii_skill.readable import WHY_UNREADABLE, readable
from iii_skill.sources import Event
from iii_skill.triggers import Subscriber

logger = logging.getLogger(__name__)

DEEPEST: Final = 8
"""An observer of a call that this many observers led to is called; none of a deeper one."""

_DROPS: Final = {NOT_FOUND: "TARGET_UNAVAILABLE", TOO_LARGE: "TOO_LARGE", BUSY: "OVERFLOW"}
"""Why a target could not be called, and what is counted for it."""

_report = msgspec.json.Decoder(ObservedCall)
_encode = msgspec.json.Encoder().encode


class Delivery:
    """Calls targets. `fired` is told of every observer that was one call nearer to its end."""

    def __init__(
        self, engine: Engine, observers: dict[str, Observer], fired: Callable[[Observer], None]
    ) -> None:
        self._engine = engine
        self._observers = observers
        self._fired = fired
        engine.fanout.on_failure = self._failed

    def watch(self, function: Function, call: Call, index: FilterIndex[Observer]) -> None:
        """Call the observers of a call once it is answered."""
        if call.invocation_id is None:
            call.invocation_id = fresh_id()
        observation = Observation(
            function,
            call.invocation_id,
            time.time_ns() // 1_000_000,
            input=call.payload(),
            caller=call.caller,
            metadata=call.metadata,
            depth=call.depth,
            traceparent=call.traceparent,
            baggage=call.baggage,
        )
        start = time.perf_counter()
        reply = call.reply

        def answered(outcome: Outcome) -> None:
            call.reply = no_reply
            reply(outcome)
            observation.duration_ms = round((time.perf_counter() - start) * 1000, 3)
            observation.end(outcome)
            self._routed(observation, call, index)

        call.reply = answered

    def report(self, worker: Worker, message: InvocationsObserved) -> None:
        """Calls that a worker made to itself, and the observers that it found for them."""
        for item in message.items:
            try:
                told = _report.decode(item)
            except msgspec.DecodeError as error:
                logger.warning("%s: a report of a call cannot be read: %s", worker.label, error)
                continue
            self._reported(worker, told)

    def hear(self, observer: Observer, function: Function, caller: bytes) -> Callable[[Event], None]:
        """What an observer of a source inside the host does with an event."""

        function_id = _encode(function.id)

        def heard_whole(event: Event) -> None:
            observation = Observation(
                function,
                fresh_id(),
                time.time_ns() // 1_000_000,
                input=event.payload,
                output=event.payload,
                caller=caller,
            )
            self.deliver(observer, observation, lane=event.lane)

        def heard_bare(event: Event) -> None:
            activation_id = fresh_id()
            context = Context(
                activation_id,
                engine_as_caller(function_id, fresh_id()),
                1,
                activation(observer, activation_id),
            )
            self._fire(observer, event.lane, event.payload, context)

        if observer.definition.on is Outcomes.ERROR:
            return lambda _event: None  # an event is no failed call
        return heard_whole if observer.definition.deliver is Deliver.ENVELOPE else heard_bare

    def deliver(self, observer: Observer, observation: Observation, lane: Hashable = UNORDERED) -> None:
        """Call the target for one call of the source."""
        depth = observation.depth + 1
        if depth > DEEPEST:
            observer.drop("LOOP_GUARD")
            logger.warning(
                "observer %s of %s leads back to itself: after %d rounds its target is not called",
                observer.id,
                observer.definition.source,
                DEEPEST,
                extra={"traceparent": observation.traceparent},
            )
            return
        activation_id = fresh_id()
        context = Context(
            activation_id,
            engine_as_caller(_encode(observation.function.id), observation.invocation_id),
            depth,
            activation(observer, activation_id),
            observation.traceparent,
            observation.baggage,
        )
        self._fire(observer, lane, payload(observation, observer, activation_id), context)

    def _fire(self, observer: Observer, lane: Hashable, data: bytes, context: Context) -> None:
        if self._engine.fanout.fire(observer, lane, data, None, context):
            self._fired(observer)
        else:
            observer.drop("OVERFLOW")

    def through(self, worker: Worker, observer_id: str, call: Call) -> None:
        """The worker of a source calls the target itself, and gets its answer."""
        observer = self._observers.get(observer_id)
        if observer is None:
            call.reply(Failure("OBSERVER_NOT_FOUND", f"There is no observer {observer_id}."))
            return
        failure = _not_through(worker, observer, call)
        if failure is not None:
            call.reply(failure)
            return
        free = self.open(observer, call)
        if isinstance(free, Failure):
            call.reply(free)
            return
        reply = call.reply

        def answered(outcome: Outcome) -> None:
            call.reply = no_reply
            free()
            reply(outcome)

        call.reply = answered
        # The payload is the host's own: no stamp, no envelope.
        call.caller_id = None
        self._engine.invoke(call)

    def open(self, observer: Observer, call: Call) -> Callable[[], None] | Failure:
        """Make a call of the target one of the observer; gives what ends it, or why it is not made."""
        if observer.state is not ObserverState.ACTIVE:
            text = f"The observer {observer.id} is {observer.state.value}; it is called while it is active."
            return Failure("OBSERVER_NOT_ACTIVE", text)
        if call.depth + 1 > DEEPEST:
            observer.drop("LOOP_GUARD")
            return Failure("LOOP_GUARD", f"{DEEPEST} observers led to this call; one more is not called.")
        free = self._engine.fanout.take_slot(observer)
        if free is None:
            observer.drop("OVERFLOW")
            text = f"{observer.max_in_flight} calls of {call.function_id} are out already for this observer."
            return Failure("OVERFLOW", text)
        call.namespace, call.metadata = observer.namespace, observer.metadata
        call.depth += 1
        call.activation = activation(observer, fresh_id())
        self._fired(observer)
        return free

    def _routed(self, observation: Observation, call: Call, index: FilterIndex[Observer]) -> None:
        """A routed call was answered: the worker's own choice counts, else the filters do."""
        function = observation.function
        if call.delivered or function.own_delivery or not index:
            return
        if call.matched is None:
            chosen = index.matching(observation)
        else:
            named = (self._observers.get(observer_id) for observer_id in call.matched)
            chosen = [
                observer
                for observer in named
                if observer is not None
                and observer.state is ObserverState.ACTIVE
                and observer.source is not None
                and (observer.source.id, observer.source.namespace) == (function.id, function.namespace)
                and observer.definition.filter.matches(observation)
            ]
        chosen = [observer for observer in chosen if observation.concerns(observer.definition.on)]
        if not chosen:
            return
        # What workers send and answer was checked on its way; what a function inside the host got was not.
        if function.owner is None and not _all_readable(observation):
            logger.warning(
                "a call of %s is not told to its observers: %s",
                function.id,
                WHY_UNREADABLE,
                extra={"traceparent": observation.traceparent},
            )
            for observer in chosen:
                observer.drop("UNREADABLE")
            return
        for observer in chosen:
            self.deliver(observer, observation)

    def _reported(self, worker: Worker, told: ObservedCall) -> None:
        observers = [
            observer
            for observer in map(self._observers.get, dict.fromkeys(told.matched))
            if observer is not None
            and observer.state is ObserverState.ACTIVE
            and observer.source is not None
            and observer.source.owner is worker
            and observer.source.id == told.function_id
        ]
        if not observers:
            return
        function = observers[0].source
        assert function is not None
        observation = Observation(
            function,
            told.invocation_id,
            int(told.started_at_ms),
            told.duration_ms,
            told.status == "success",
            _part(told.input),
            _part(told.input if told.output_is_input else told.output),
            _part(told.error),
            _stamped(worker, _part(told.caller)),
            _part(told.metadata),
            max(told.observe_depth or 0, 0),
            told.traceparent,
            told.baggage,
        )
        if not _all_readable(observation):
            logger.warning(
                "%s: a call of %s is not told to its observers: %s",
                worker.label,
                told.function_id,
                WHY_UNREADABLE,
                extra={"traceparent": told.traceparent},
            )
            for observer in observers:
                observer.drop("UNREADABLE")
            return
        for observer in observers:
            self.deliver(observer, observation)

    def _failed(self, subscriber: Subscriber, failure: Failure) -> None:
        if isinstance(subscriber, Observer) and failure.code in _DROPS:
            subscriber.drop(_DROPS[failure.code])


def _not_through(worker: Worker, observer: Observer, call: Call) -> Failure | None:
    """Why a worker may not call the target of an observer."""
    source = observer.source
    if source is None or source.owner is not worker:
        text = f"{worker.label} does not own {observer.definition.source}, which the observer observes."
        return Failure("NOT_FUNCTION_OWNER", text)
    if observer.state is ObserverState.ACTIVE and call.function_id != observer.function_id:
        text = f"The observer {observer.id} calls {observer.function_id}, not {call.function_id}."
        return Failure("TARGET_MISMATCH", text)
    if not readable(call.data):
        return Failure(UNREADABLE, f"The call of {call.function_id} was not made: {WHY_UNREADABLE}")
    return None


def _part(raw: Raw | UnsetType) -> bytes | None:
    return None if raw is UNSET else bytes(raw)


def _all_readable(observation: Observation) -> bool:
    parts = (observation.input, observation.output, observation.error, observation.metadata)
    return all(part is None or readable(part) for part in parts)


def _stamped(worker: Worker, said: bytes | None) -> bytes:
    """The caller of a call inside a worker: that worker, whatever its SDK says of it."""
    if said is None:
        return worker.as_caller
    try:
        fields = msgspec.json.decode(said, type=dict[str, Raw])
        own = msgspec.json.decode(worker.as_caller, type=dict[str, Raw])
    except msgspec.DecodeError:
        return worker.as_caller
    stamped = _encode({**fields, **own})
    return stamped if readable(stamped) else worker.as_caller
