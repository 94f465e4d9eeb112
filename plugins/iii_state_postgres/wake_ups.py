"""WakeUps: tells whoever follows that there is something to read, after the commit that wrote it."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Collection

from iii_skill.adapters.shared import end_tasks
from iii_skill.errors import AdapterError

from .bucket_log import BucketLog
from .layout import channel_of

PAUSE = 0.02
"""Seconds from one to the next; who follows a busy log finds more by itself."""
QUIET_AT_CLOSE = 0.25


class WakeUps:
    """A notice is never a part of the commit itself: such commits wait for each other's flush, on the whole
    server. Who misses one, because this host ended in between, looks at the log every second all the same.
    """

    def __init__(self, schema: str, send: Callable[[list[str]], Awaitable[object]]) -> None:
        """`send` notifies these channels."""
        self.logs: weakref.WeakSet[BucketLog] = weakref.WeakSet()
        """Those that this host follows: they need no notice of what it wrote itself."""
        self._schema = schema
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._due: set[int] = set()
        self._next: asyncio.TimerHandle | None = None
        """Until then what is due gathers."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def wrote(self, buckets: Collection[int]) -> None:
        """Tell of changes in these buckets: in this host at once, all others then or with the next ones."""
        for log in self.logs:
            log.wake(buckets)
        self._due.update(buckets)
        if self._next is None and not self._closed:
            self._tell()

    async def close(self) -> None:
        """Tell what is left unless the server is silent, then nothing more."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        if self._due:
            self._tell()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=QUIET_AT_CLOSE)
            await end_tasks(self._task)

    def _tell(self) -> None:
        if self._task is None or self._task.done():
            channels = sorted({channel_of(self._schema, bucket) for bucket in self._due})
            self._due.clear()
            self._task = self._loop.create_task(self._notify(channels))
        if not self._closed:
            self._next = self._loop.call_later(PAUSE, self._paused)

    def _paused(self) -> None:
        self._next = None
        if self._due:
            self._tell()

    async def _notify(self, channels: list[str]) -> None:
        # Whoever follows looks by itself, too.
        with contextlib.suppress(AdapterError):
            await self._send(channels)
