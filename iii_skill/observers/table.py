"""Observers: all of them, their states, and what changes these.

An observer is active when its owner is there, its source is there and works for it, and its target is there.
Everything else is told to its owner as a state with a reason. One that was refused at once is not kept.
What an owner that left held stays for a while, for the connection with which it comes back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from iii_skill.calls import Call, Failure
from iii_skill.engine.deadlines import Deadlines
from iii_skill.engine.engine import Engine
from iii_skill.engine.functions import Function
from iii_skill.engine.workers import Worker
from iii_skill.errors import CallerError
from iii_skill.observers.definition import Definition, check_fit, read_definition
from iii_skill.observers.delivery import Delivery
from iii_skill.observers.errors import ObserverRefused, refused
from iii_skill.observers.hosts import Hosts
from iii_skill.observers.index import ObserverIndex, Watched
from iii_skill.observers.observer import Accepted, Observer, ObserverState, Reason
from iii_skill.protocol.messages import ErrorBody, Observe, ObserverAck
from iii_skill.protocol.outgoing import LegacyTrigger, ObserverStateChanged
from iii_skill.served import WORKER_OF, missing_worker
from iii_skill.triggers import Subscriber

logger = logging.getLogger(__name__)

GRACE_S: Final = 30.0
"""Seconds for which the observers of a worker that left are kept."""


class Observers:
    """The table of all observers of an engine."""

    def __init__(self, engine: Engine, *, grace_s: float = GRACE_S) -> None:
        self._engine = engine
        self._index = ObserverIndex()
        self._by_id = self._index.by_id
        # What owners that left held.
        self._left: Deadlines[Observer] = Deadlines(grace_s, self._not_back)
        self.hosts = Hosts(self.refresh)
        self.delivery = Delivery(engine, self._by_id, self._fired)
        self.verify: Callable[[Observer, Function], bool] = lambda _observer, _function: True
        """Whether the args of an observer are known to fit its source; False: somebody finds out."""
        self.on_state: list[Callable[[Observer], None]] = []
        """Called with every observer that is in another state."""
        engine.observer_count = self.count
        engine.enter_observer = self._enter
        engine.on_function.append(self._function_changed)
        engine.on_change.append(self._engine_changed)

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Observer]:
        return iter(self._by_id.values())

    def get(self, observer_id: str) -> Observer | None:
        """The observer of that id that has not ended."""
        return self._by_id.get(observer_id)

    def count(self, function: Function) -> int:
        """How many observe a function."""
        return sum(len(watched.observers) for watched in self._index.watched(function))

    def _enter(self, subscriber: Subscriber, call: Call) -> Callable[[], None] | Failure:
        observer = self._by_id.get(subscriber.id)
        if observer is not subscriber or observer is None:
            return Failure("OBSERVER_NOT_FOUND", f"There is no observer {subscriber.id}.")
        return self.delivery.open(observer, call)

    # What owners ask for.

    def observe(
        self,
        owner: Worker | None,
        message: Observe,
        *,
        args_fit: bool,
        legacy: LegacyTrigger | None = None,
    ) -> Accepted:
        """Take an observer; raises CallerError with the code of the refusal, and then nothing is kept.

        `owner` None is the host. `args_fit`: the args are known to fit the source that is there now.
        """
        held = self._by_id.get(message.id)
        if held is not None and held.owner is not owner and held.connected:
            raise self._taken(message.id)
        definition = read_definition(message)
        if held is not None:
            if held.definition.identity == definition.identity:
                return self._replayed(held, owner)
            if held.connected:
                raise self._taken(message.id)
            self.end(held, "OBSERVER_DISCONNECTED", "Its owner came back with another definition.")
        if definition.source == definition.target:
            raise refused("SELF_TARGET", f"{definition.source} cannot be its own target.")
        function = self._lookup(definition)
        warnings: list[str] = []
        if function is not None:
            warnings = check_fit(definition, function, args_fit=args_fit)
        self._index.check_room(None if owner is None else owner.id, definition)
        observer = Observer(message.id, definition, owner, time.time_ns() // 1_000_000)
        observer.legacy = legacy
        source = self._engine.sources.get(definition.source.function_id)
        if source is not None:
            source.admit(observer, definition.args)
        self._index.add(observer, function)
        if definition.expires_in_ms is not None:
            loop = asyncio.get_running_loop()
            observer.expiry = loop.call_later(definition.expires_in_ms / 1000, self._expired, observer)
        if function is None:
            self._log_missing(definition.source.function_id)
        else:
            observer.source = function
            self.hosts.added(function, observer)
        observer.state, observer.reason = self._due(observer)
        self._entered(observer)
        return Accepted(observer, warnings)

    def unobserve(self, owner: Worker | None, observer_id: str) -> bool:
        """End an observer of that owner; False for ids that it does not hold."""
        observer = self._by_id.get(observer_id)
        if observer is None or observer.owner is not owner or not observer.connected:
            return False
        self.end(observer, "UNOBSERVED", "Its owner ended it.")
        return True

    def acknowledged(self, worker: Worker, message: ObserverAck) -> None:
        """The worker of a source gave its verdict."""
        observer = self._by_id.get(message.id)
        if observer is not None:
            self.hosts.verdict(worker, observer, message)

    def end(self, observer: Observer, code: str, text: str) -> None:
        """It is over, and its id is free."""
        if self._by_id.pop(observer.id, None) is None:
            return
        self._left_state(observer)
        self._index.remove(observer)
        self._left.stop(observer)
        if observer.expiry is not None:
            observer.expiry.cancel()
        definition = observer.definition
        source = self._engine.sources.get(definition.source.function_id)
        if source is not None:
            source.dismiss(observer.id)
        if code == "MAX_FIRES":
            self._engine.fanout.let_finish(observer.id)
        else:
            self._engine.fanout.forget(observer.id)
        if observer.source is not None:
            self.hosts.removed(observer.source, observer)
        observer.state, observer.reason = ObserverState.DISPOSED, Reason(code, text)
        self._tell(observer)

    # What changes states.

    def refresh(self, observer: Observer) -> None:
        """Enter the state that follows from what is known now, and tell the owner if it is another one."""
        if self._by_id.get(observer.id) is not observer:
            return
        state, reason = self._due(observer)
        if state is observer.state and _code(reason) == _code(observer.reason):
            return
        if state is not observer.state:
            self._left_state(observer)
        was, observer.state, observer.reason = observer.state, state, reason
        if state is not was:
            self._entered(observer)
        self._tell(observer)

    def args_checked(self, observer: Observer, function: Function, fault: CallerError | None) -> None:
        """It was found out whether the args fit a source that came after the observer."""
        watched = self._index.watched_of(observer)
        if (
            self._by_id.get(observer.id) is not observer
            or watched is None
            or watched.function is not function
        ):
            return
        if fault is not None:
            observer.refusal, observer.refused_by_worker = Reason(fault.code, fault.message), False
        else:
            observer.source = function
            self.hosts.added(function, observer)
        self.refresh(observer)

    def close(self) -> None:
        self.hosts.close()
        self._left.close()
        for observer in self._by_id.values():
            if observer.expiry is not None:
                observer.expiry.cancel()

    def _due(self, observer: Observer) -> tuple[ObserverState, Reason | None]:
        definition = observer.definition
        if observer.refusal is not None:
            return ObserverState.ERROR, observer.refusal
        if not observer.connected:
            return ObserverState.SUSPENDED, Reason(
                "OBSERVER_DISCONNECTED", "The worker that owns it has left."
            )
        if self._lookup(definition) is None:
            text = f"{definition.source} is not registered now; register it again."
            return ObserverState.PENDING, Reason("OWNER_UNAVAILABLE", text) if observer.was_active else None
        if not self.hosts.ready(observer):
            return ObserverState.PENDING, None
        target = definition.target
        if self._engine.functions.lookup(target.function_id, target.namespace) is None:
            if not observer.was_active:
                return ObserverState.PENDING, None
            text = f"{target} is not registered now; register it again."
            return ObserverState.SUSPENDED, Reason("TARGET_UNAVAILABLE", text)
        return ObserverState.ACTIVE, None

    def _entered(self, observer: Observer) -> None:
        """The new state, once it is set: an active observer hears of calls."""
        if observer.state is ObserverState.ACTIVE:
            observer.was_active = True
            function = observer.source
            assert function is not None
            source = self._engine.sources.get(function.id)
            if source is not None:
                hear = self.delivery.hear(observer, function, source.caller)
                source.listen(observer.id, observer.definition.filter, hear)
            else:
                watched = self._index.watched_of(observer)
                assert watched is not None
                watched.active.add(observer.id, observer, observer.definition.filter)
                self._engine.watches[function.id] = self._watch
        for listener in self.on_state:
            listener(observer)

    def _left_state(self, observer: Observer) -> None:
        if observer.state is not ObserverState.ACTIVE or observer.source is None:
            return
        function_id = observer.source.id
        source = self._engine.sources.get(function_id)
        if source is not None:
            source.leave(observer.id)
            return
        watched = self._index.watched_of(observer)
        if watched is not None:
            watched.active.remove(observer.id)
        if not any(others.active for others in self._index.places(function_id).values()):
            self._engine.watches.pop(function_id, None)

    def _tell(self, observer: Observer) -> None:
        reason = observer.reason
        if observer.owner is not None and observer.owner.observes:
            body = None if reason is None else ErrorBody(reason.code, reason.message)
            observer.owner.send(ObserverStateChanged(observer.id, observer.state.value, observer.fires, body))
        if observer.state is ObserverState.DISPOSED:
            for listener in self.on_state:
                listener(observer)

    def _watch(self, function: Function, call: Any) -> None:
        for watched in self._index.watched(function):
            if watched.active:
                self.delivery.watch(function, call, watched.active)

    def _fired(self, observer: Observer) -> None:
        observer.fires += 1
        most = observer.definition.max_fires
        if most is not None and observer.fires >= most:
            self.end(observer, "MAX_FIRES", f"Its target was called {most} times, as often as it asked for.")

    # What happens around it.

    def _function_changed(self, function: Function) -> None:
        """A function is there, or is gone; one inside the host is so in every namespace."""
        lookup = self._engine.functions.lookup
        touched: list[Observer] = []
        listed: list[Observer] = []
        again = False
        for namespace, watched in list(self._index.places(function.id).items()):
            former, watched.function = watched.function, lookup(function.id, namespace)
            if watched.function is former:
                continue
            touched += watched.observers.values()
            # The same connection registers it once more: what it took it still has.
            again = former is not None and former.owner is not None and former.owner is function.owner
            if not again or watched.function is None:
                self._source_gone(watched)
            if watched.function is not None:
                fitting = self._fitting(watched, watched.function)
                if watched.function is function:
                    listed += fitting
        owner = function.owner
        if owner is not None and owner.observes and lookup(function.id, function.namespace) is function:
            self.hosts.registered(function, listed, again=again)
        touched += self._index.targeting(function.id)
        for observer in touched:
            self.refresh(observer)

    def _fitting(self, watched: Watched, function: Function) -> list[Observer]:
        """The observers that fit a function that is there now; others are refused, or checked first."""
        found = []
        source = self._engine.sources.get(function.id)
        for observer in watched.observers.values():
            try:
                check_fit(observer.definition, function, args_fit=True)
                if source is not None:
                    source.admit(observer, observer.definition.args)
            except CallerError as error:
                self._detach(observer)
                observer.refusal, observer.refused_by_worker = Reason(error.code, error.message), False
                continue
            if not observer.refused_by_worker:
                observer.refusal = None
            if observer.source is not None or self.verify(observer, function):
                observer.source = function
                found.append(observer)
        return found

    def _source_gone(self, watched: Watched) -> None:
        for observer in watched.observers.values():
            self._detach(observer)
            observer.told_host = observer.acked = False

    def _detach(self, observer: Observer) -> None:
        """It hears of nothing more; which state that is is found out afterwards."""
        self._left_state(observer)
        if observer.state is ObserverState.ACTIVE:
            observer.state = ObserverState.PENDING
        observer.source = None

    def _engine_changed(self, what: str, worker: Worker | None) -> None:
        if worker is None:
            return
        if what == "worker_disconnected":
            self._owner_left(worker)
        elif what == "worker_metadata_updated":
            for observer in self._index.owned_by(worker.id):
                observer.owner_name = worker.name

    def _owner_left(self, worker: Worker) -> None:
        for observer in self._index.owned_by(worker.id):
            observer.owner = None
            self._left.start(observer)
            self.refresh(observer)

    def _not_back(self, observer: Observer) -> None:
        if not observer.connected:
            self.end(observer, "OBSERVER_DISCONNECTED", "Its owner left and did not come back.")

    # Again, and over.

    def _replayed(self, held: Observer, owner: Worker | None) -> Accepted:
        """The same definition again: the connection takes over what its former self held."""
        if held.owner is not owner:
            self._left.stop(held)
            held.owner = owner
            owner_id, owner_name = (None, None) if owner is None else (owner.id, owner.name)
            self._index.hand_over(held, owner_id, owner_name)
        if held.state is ObserverState.ERROR or held.refusal is not None:
            reason = held.refusal or held.reason
            assert reason is not None
            # The answer says it, and the id is free with it.
            held.owner = None
            self.end(held, reason.code, reason.message)
            raise refused(reason.code, reason.message)
        state, reason = self._due(held)
        if state is not held.state:
            self._left_state(held)
            held.state, held.reason = state, reason
            self._entered(held)
        held.reason = reason
        return Accepted(held, [])

    def _expired(self, observer: Observer) -> None:
        self.end(observer, "EXPIRED", f"It ended {observer.definition.expires_in_ms} ms after it was made.")

    def _lookup(self, definition: Definition) -> Function | None:
        return self._engine.functions.lookup(definition.source.function_id, definition.source.namespace)

    @staticmethod
    def _taken(observer_id: str) -> ObserverRefused:
        return refused("OBSERVER_ID_CONFLICT", f"observer id already in use: {observer_id}")

    @staticmethod
    def _log_missing(function_id: str) -> None:
        worker = WORKER_OF.get(function_id)
        if worker is not None:
            logger.warning("the observer of %s waits. %s", function_id, missing_worker(worker))


def _code(reason: Reason | None) -> str | None:
    return None if reason is None else reason.code
