"""Deadlines: things that all get the same time, with one timer for them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """What has been started and has not been stopped; `expired` is called with what runs out of time."""

    def __init__(self, seconds: float, expired: Callable[[T], None]) -> None:
        self.seconds = seconds
        self._expired = expired
        # In the order of the starts, so the first is due first.
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._due))

    def start(self, item: T) -> None:
        """The time of the item begins now."""
        loop = asyncio.get_running_loop()
        due = self._due[item] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look, loop)

    def stop(self, item: T) -> None:
        """The item needs no time any more; unknown ones are fine."""
        self._due.pop(item, None)

    def close(self) -> None:
        """Forget everything, and stop the timer."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._due:
            item, due = next(iter(self._due.items()))
            if due > now:
                # What was stopped since left the timer as it was, so it may ring too early, never too late.
                # An item may have been started meanwhile by `expired`, and the timer with it.
                if self._timer is None:
                    self._timer = loop.call_at(due, self._look, loop)
                return
            del self._due[item]
            self._expired(item)
