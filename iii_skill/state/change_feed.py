"""Follow the changes of an adapter that other hosts write to as well; start over when the stream breaks."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Callable

from iii_skill.values import Change

log = logging.getLogger("iii_skill.state")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
CANCEL_AGAIN = 0.5


class ChangeFeed:
    """A loop over `changes()` while they are wanted; each change goes to `fire`, in order."""

    def __init__(
        self,
        changes: Callable[[], AsyncIterator[Change]],
        fire: Callable[[Change], None],
        *,
        wanted: Callable[[], bool],
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """`broken` is called when changes may have been missed."""
        self._broken = broken
        self._changes = changes
        self._fire = fire
        self._wanted = wanted
        self._following = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Follow what changes from now on; nothing new when that is done already."""
        if self._following:
            return
        self._following = True
        # In a context of its own: what it tells does not come of the call that was the first to listen.
        follow = self._follow(self._begin())
        task = asyncio.get_running_loop().create_task(follow, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop following; safe to call twice."""
        for task in list(self._tasks):
            while not task.done():
                # Repeated, because `asyncio.wait_for` of Python 3.11 can swallow a cancellation.
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_AGAIN)

    def abandon(self) -> None:
        """Wait no longer for what ignores that it is to stop."""
        for task in self._tasks:
            task.cancel()

    def _begin(self) -> AsyncIterator[Change] | None:
        try:
            return self._changes()
        except Exception:
            log.exception("the adapter's changes cannot be followed; trying again")
            return None

    async def _follow(self, changes: AsyncIterator[Change] | None) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if changes is not None:
                    async with _closing(changes):
                        async for change in changes:
                            pause = FIRST_PAUSE
                            if not self._wanted():
                                self._following = False
                                return
                            self._fire(change)
                    log.warning("the adapter's changes ended; following again in %.1f s", pause)
            except Exception:
                log.exception("following the adapter's changes failed; trying again in %.1f s", pause)
            self._broken()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            changes = self._begin()


@contextlib.asynccontextmanager
async def _closing(changes: AsyncIterator[Change]) -> AsyncIterator[None]:
    """Close the iterator at the end if it can be (an async generator can)."""
    try:
        yield
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()
