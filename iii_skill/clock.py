"""Clock: the host's time, by which companions schedule; a test can move it forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Timer:
    """One call that is due at a moment of the host's clock."""

    __slots__ = ("_clock", "_handle", "arguments", "callback", "when")

    def __init__(self, clock: Clock, when: float, callback: Callable[..., Any], arguments: Any) -> None:
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self.when = when
        self.callback = callback
        self.arguments = arguments

    def cancel(self) -> None:
        """Take the call back; safe after it was made."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._clock.forget(self)

    def arm(self, delay: float) -> None:
        """Wait anew, `delay` seconds from now."""
        if self._handle is not None:
            self._handle.cancel()
        # In parts: a wall clock that is set forward is noticed within the hour.
        self._handle = asyncio.get_running_loop().call_later(min(max(0.0, delay), 3600.0), self._due)

    def _due(self) -> None:
        # A wall clock that was set back, or a timer that came early: wait for the rest.
        left = self.when - self._clock.now()
        if left > 0.0:
            self.arm(left)
            return
        self._handle = None
        self._clock.forget(self)
        self.callback(*self.arguments)


class Clock:
    """Seconds since 1970 (UTC), and calls that are due at such a moment."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._timers: dict[Timer, None] = {}

    def now(self) -> float:
        """The present moment."""
        return time.time() + self._ahead

    def now_ms(self) -> int:
        """The same in whole milliseconds."""
        return int(self.now() * 1000)

    def call_at(self, when: float, callback: Callable[..., Any], *arguments: Any) -> Timer:
        """Call back at a moment, at once when it is past; never before it."""
        timer = Timer(self, when, callback, arguments)
        self._timers[timer] = None
        timer.arm(when - self.now())
        return timer

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Timer:
        """Call back after `delay` seconds."""
        return self.call_at(self.now() + delay, callback, *arguments)

    def advance(self, seconds: float) -> None:
        """Move the clock forward; what is due by then is called in the order of its moments, soon."""
        if seconds < 0:
            raise ValueError("a clock moves forward only")
        self._ahead += seconds
        now = self.now()
        for timer in sorted(self._timers, key=lambda timer: timer.when):
            timer.arm(timer.when - now)

    @property
    def ahead(self) -> float:
        """Seconds that it was moved forward by: how far it is before the clocks of others."""
        return self._ahead

    @property
    def pending(self) -> int:
        """How many calls wait for their moment."""
        return len(self._timers)

    @property
    def due(self) -> int:
        """How many of them have come to it: they are made in one of the next turns of the loop."""
        now = self.now()
        return sum(timer.when <= now for timer in self._timers)

    def forget(self, timer: Timer) -> None:
        """The timer is over."""
        self._timers.pop(timer, None)
