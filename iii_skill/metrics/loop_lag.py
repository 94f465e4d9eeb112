"""LoopLag: how late the event loop is, which is how long a call may wait before anybody looks at it."""

from __future__ import annotations

import asyncio
from collections import deque

EVERY_S = 0.1
KEPT = 100
"""Looks that count: those of the last ten seconds."""


class LoopLag:
    """Looks at the loop ten times a second, from `start` to `stop`."""

    def __init__(self) -> None:
        self._looks: deque[float] = deque(maxlen=KEPT)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + EVERY_S
        self._timer = loop.call_at(self._due, self._look, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def largest(self) -> float:
        """Seconds that it was late at most, lately."""
        return max(self._looks, default=0.0)

    @property
    def latest(self) -> float:
        """Seconds that it was late the last time; only this says how it is now."""
        return self._looks[-1] if self._looks else 0.0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._looks.append(max(0.0, now - self._due))
        self._due = now + EVERY_S
        self._timer = loop.call_at(self._due, self._look, loop)
