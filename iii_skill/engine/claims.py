"""Claims: names that somebody else holds, and who waits for them, oldest first.

A worker whose connection died without a word still holds its names until that is noticed; the one that took
its place has registered by then, was refused, and does not ask again.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from iii_skill.engine.workers import Worker

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 10_000
"""Claims that are kept; beyond them a refusal is all there is."""


class Claims(Generic[K, V]):
    """Who waits for which name, and with what."""

    def __init__(self) -> None:
        self._waiting: dict[K, dict[Worker, V]] = {}
        self._count = 0

    def add(self, name: K, worker: Worker, claim: V) -> None:
        """The worker waits for the name; a later claim of its own takes the place of the earlier one."""
        waiting = self._waiting.setdefault(name, {})
        if worker in waiting:
            waiting[worker] = claim
        elif self._count < MOST:
            waiting[worker] = claim
            self._count += 1

    def put_first(self, name: K, worker: Worker, claim: V) -> None:
        """The worker gets the name before all others that wait for it; nothing happens when nobody does."""
        waiting = self._waiting.get(name)
        if waiting:
            self._count += worker not in waiting
            waiting.pop(worker, None)
            self._waiting[name] = {worker: claim, **waiting}

    def withdraw(self, name: K, worker: Worker) -> None:
        """The worker waits for the name no more."""
        waiting = self._waiting.get(name)
        if waiting is not None and waiting.pop(worker, None) is not None:
            self._count -= 1
            if not waiting:
                del self._waiting[name]

    def next(self, name: K) -> tuple[Worker, V] | None:
        """Whoever has waited longest for the name, and waits no more."""
        waiting = self._waiting.get(name)
        if not waiting:
            self._waiting.pop(name, None)
            return None
        worker = next(iter(waiting))
        claim = waiting[worker]
        self.withdraw(name, worker)
        return worker, claim

    def leave(self, worker: Worker) -> None:
        """The worker is gone."""
        if self._count:
            for name in [name for name, waiting in self._waiting.items() if worker in waiting]:
                self.withdraw(name, worker)
