"""Follow the changes of an adapter that other hosts write to as well; start over when the stream breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from iii_skill.values import Change

log = logging.getLogger("iii_skill.state")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
CANCEL_AGAIN = 0.5


class ChangeFeed:
    """One loop over `changes()`; each change goes to `fire`, in order."""

    def __init__(self, changes: Callable[[], AsyncIterator[Change]], fire: Callable[[Change], None]) -> None:
        self._changes = changes
        self._fire = fire
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.ensure_future(self._follow())

    async def close(self) -> None:
        """Stop following; safe to call twice."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            # Repeated, because `asyncio.wait_for` of Python 3.11 can swallow a cancellation.
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_AGAIN)

    async def _follow(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with _closing(self._changes()) as changes:
                    async for change in changes:
                        pause = FIRST_PAUSE
                        self._fire(change)
                log.warning("the adapter's changes ended; following again in %.1f s", pause)
            except Exception:
                log.exception("following the adapter's changes failed; trying again in %.1f s", pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


@contextlib.asynccontextmanager
async def _closing(changes: AsyncIterator[Change]) -> AsyncIterator[AsyncIterator[Change]]:
    """The iterator, closed at the end if it can be (an async generator can)."""
    try:
        yield changes
    finally:
        close = getattr(changes, "aclose", None)
        if close is not None:
            await close()
