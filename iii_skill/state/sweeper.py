"""Sweeper: has the adapter delete the keys that are over, as soon as they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

from iii_skill.adapter import StateAdapter, settled
from iii_skill.clock import Clock, Timer
from iii_skill.errors import AdapterTimeout, AdapterUnavailable
from iii_skill.state.expire_function import LATEST_MS

log = logging.getLogger("iii_skill.state")

LOOK_SECONDS = 1.0
"""How often a store is looked at that other hosts write to: they give ends, too, and may be gone by then."""
START_SECONDS = 5.0
"""So long after the start, by the host's clock, is told what ended before it: listeners come back first."""
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Sweeper:
    """Waits for the next end by the host's clock. While no key has one, it only waits to be told of one."""

    def __init__(self, adapter: StateAdapter, clock: Clock) -> None:
        self._adapter = adapter
        self._clock = clock
        self._news = asyncio.Event()
        self._next: float = math.inf
        """The first end that is known of."""
        self._timer: Timer | None = None

    def given(self, at_ms: int) -> None:
        """A key has this end now."""
        if at_ms < self._next:
            self._next = at_ms
            self._arm()

    async def run(self) -> None:
        """Sweep until it is cancelled."""
        pause = PAUSE_SECONDS
        try:
            self.given(int((self._clock.now() + START_SECONDS) * 1000))
            await self._news.wait()
            while True:
                self._news.clear()
                self._next = math.inf
                try:
                    following = await settled(self._adapter.sweep())
                except Exception as error:
                    # A server that is away is told of by whoever calls it.
                    away = isinstance(error, (AdapterUnavailable, AdapterTimeout))
                    log.log(
                        logging.DEBUG if away else logging.WARNING,
                        "keys that are over could not be deleted, trying again: %s",
                        error,
                    )
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    continue
                pause = PAUSE_SECONDS
                await self._wait(following)
        finally:
            self._cancel()

    async def _wait(self, following: int | None) -> None:
        """Until the next end comes; what was given during the sweep may be earlier than what that found."""
        self.given(LATEST_MS if following is None else following)
        if self._next <= self._clock.now() * 1000:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS if self._adapter.shared else None):
                await self._news.wait()

    def _arm(self) -> None:
        self._cancel()
        if self._next < LATEST_MS:
            self._timer = self._clock.call_at(self._next / 1000, self._news.set)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
