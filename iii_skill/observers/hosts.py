"""What the workers of sources are told: who observes their functions; and what they say to it.

One counter for the whole engine numbers what is told; a worker repeats the number with its verdict, and a
verdict with another number is about something that is over. Only workers that take messages of observers
are told; the functions of others are observed without their help.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Final

from iii_skill.engine.deadlines import Deadlines
from iii_skill.engine.functions import Function
from iii_skill.engine.workers import Worker
from iii_skill.observers.observer import Observer, Reason
from iii_skill.protocol.messages import ObserverAck
from iii_skill.protocol.outgoing import FunctionRegistered, ObserverAdded, ObserverRemoved

ACK_S: Final = 40.0
"""Seconds for a verdict; the SDK's own limit for a hook is 30."""


class Hosts:
    """Announcements and verdicts. `changed` is told of every observer whose verdict is in."""

    def __init__(self, changed: Callable[[Observer], None]) -> None:
        self._changed = changed
        self._revisions = itertools.count(1)
        self._unanswered: Deadlines[Observer] = Deadlines(ACK_S, self._expired)

    def registered(self, function: Function, observers: Iterable[Observer], *, again: bool) -> None:
        """Answer a registration with everybody who observes the function.

        `again`: the same connection registers it once more, and what it took it still has.
        """
        owner = _told(function)
        if owner is None:
            return
        revision = next(self._revisions)
        listed = list(observers)
        for observer in listed:
            self._announced(observer, revision, keep=again)
        views = [observer.view() for observer in listed]
        owner.send(FunctionRegistered(function.id, function.namespace, revision, function.in_process, views))

    def added(self, function: Function, observer: Observer) -> None:
        """Tell of one more observer."""
        owner = _told(function)
        if owner is None:
            return
        revision = next(self._revisions)
        self._announced(observer, revision, keep=False)
        owner.send(ObserverAdded(function.id, function.namespace, revision, observer.view()))

    def removed(self, function: Function, observer: Observer) -> None:
        """Tell that an observer ended; nothing is said of one that was never told of."""
        owner = _told(function)
        if owner is not None and observer.told_host:
            owner.send(ObserverRemoved(function.id, function.namespace, next(self._revisions), observer.id))
        observer.told_host = False
        self._unanswered.stop(observer)

    def ready(self, observer: Observer) -> bool:
        """True when the source works for the observer: its worker took it, or is not asked."""
        return observer.source is not None and (observer.acked or _told(observer.source) is None)

    def verdict(self, worker: Worker, observer: Observer, message: ObserverAck) -> None:
        """The worker of the source took the observer, or refuses it; also later, for one that it took."""
        function = observer.source
        if function is None or function.owner is not worker or message.revision != observer.revision:
            return
        self._unanswered.stop(observer)
        if message.error is None:
            observer.acked, observer.refusal, observer.refused_by_worker = True, None, False
            self._changed(observer)
            return
        took_it, observer.acked = observer.acked, False
        observer.refusal, observer.refused_by_worker = Reason(message.error.code, message.error.message), True
        self._changed(observer)
        if took_it:
            self.removed(function, observer)
        observer.told_host = False

    def close(self) -> None:
        self._unanswered.close()

    def _announced(self, observer: Observer, revision: int, *, keep: bool) -> None:
        observer.revision, observer.told_host = revision, True
        if not keep:
            observer.acked = False
        self._unanswered.stop(observer)
        if not observer.acked:
            self._unanswered.start(observer)

    def _expired(self, observer: Observer) -> None:
        if observer.told_host and not observer.acked:
            text = (
                f"The worker of {observer.definition.source} did not say in {ACK_S:g} s whether it takes it."
            )
            observer.refusal, observer.refused_by_worker = Reason("OWNER_TIMEOUT", text), True
            self._changed(observer)


def _told(function: Function) -> Worker | None:
    """The worker that is told of the observers of a function."""
    owner = function.owner
    return owner if owner is not None and owner.observes else None
