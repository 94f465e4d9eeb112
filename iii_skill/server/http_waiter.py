"""Waiting for the outcome of a call, with one timer for all that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from iii_skill.calls import Outcome


class Waiter:
    """A call whose outcome is awaited; `gone` when nobody waits for it any more."""

    __slots__ = ("_future", "_loop", "gone", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self.outcome: Outcome | None = None
        self.gone = False

    @property
    def settled(self) -> bool:
        """True when there is something to go on with."""
        return self.gone or self.outcome is not None

    def reply(self, outcome: Outcome) -> None:
        """Take the outcome; a second one is dropped."""
        if not self.settled:
            self.outcome = outcome
            self.wake()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Let the waiting task look again."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def pause(self) -> asyncio.Future[None]:
        """Done at the next `wake`."""
        self._future = self._loop.create_future()
        return self._future


class Waiters:
    """Everything that waits, and one timer that wakes what has reached its deadline."""

    def __init__(self) -> None:
        self._deadlines: dict[Waiter, float] = {}
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._deadlines)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._deadlines))

    async def wait(self, waiter: Waiter, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        """Return when the waiter is woken, by its outcome or at the deadline (in the time of the loop)."""
        own: asyncio.TimerHandle | None = None
        if deadline < self._last:
            # The shared timer looks at the oldest entry only, so the deadlines in it must rise.
            own = loop.call_at(deadline, waiter.wake)
            deadline = self._last
        self._last = self._deadlines[waiter] = deadline
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire, loop)
        try:
            await waiter.pause()
        finally:
            del self._deadlines[waiter]
            if own is not None:
                own.cancel()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for waiter, deadline in self._deadlines.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._expire, loop)
                return
            waiter.wake()
