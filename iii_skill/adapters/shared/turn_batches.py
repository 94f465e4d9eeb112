"""TurnBatches: the calls of one turn of the event loop as one request to the server.

One request is on its way at a time. What is called meanwhile gathers and leaves with the next one, so that
a slow server gets fewer and larger requests, and nobody waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from iii_skill.errors import AdapterUnavailable

T = TypeVar("T")

MOST_TOGETHER = 512
MOST_WAITING = 20_000


class TurnBatches(Generic[T]):
    """Gathers items and hands them to `send` in the order in which they were added."""

    def __init__(
        self,
        send: Callable[[Sequence[T]], Awaitable[None]],
        *,
        size: Callable[[T], int] = lambda _item: 0,
        most_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        """`send` settles every item of its batch and raises nothing; `size`: bytes of an item. A batch is
        ended by `most_bytes`, so one item may be larger."""
        self._send = send
        self._size = size
        self._most_bytes = most_bytes
        self._waiting: deque[T] = deque()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._aborted = False
        self.sent = 0
        """How many batches have been settled."""

    def add(self, item: T) -> None:
        """Take the item; it leaves at the end of this turn, or when the request on its way is settled.
        AdapterUnavailable when too many wait."""
        if self._aborted:
            raise AdapterUnavailable("The adapter is closed.")
        if len(self._waiting) >= MOST_WAITING:
            raise AdapterUnavailable(f"{MOST_WAITING} calls wait for the server already; try again.")
        self._waiting.append(item)
        if not self._scheduled:
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._leave)

    @property
    def idle(self) -> bool:
        """True while nothing waits or is on its way."""
        return not self._scheduled

    async def drained(self, *, quiet: float) -> bool:
        """Wait until nothing is left; False when no batch was settled for `quiet` seconds."""
        while self._scheduled:
            sent = self.sent
            try:
                async with asyncio.timeout(quiet):
                    await self._idle.wait()
            except TimeoutError:
                if sent == self.sent:
                    return False
        return True

    async def abort(self) -> Sequence[T]:
        """Cancel the request on its way and take nothing new; gives what has not left. `send` sees a
        CancelledError."""
        self._aborted = True
        waiting, self._waiting = list(self._waiting), deque()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return waiting

    def _leave(self) -> None:
        batch: list[T] = []
        size = 0
        while self._waiting and len(batch) < MOST_TOGETHER and size < self._most_bytes:
            item = self._waiting.popleft()
            batch.append(item)
            size += self._size(item)
        if batch:
            self._task = self._loop.create_task(self._settle(batch))
            self._task.add_done_callback(self._settled)
        else:
            self._scheduled = False
            self._idle.set()

    async def _settle(self, batch: Sequence[T]) -> None:
        await self._send(batch)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self.sent += 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a batch was not settled", "exception": error})
        self._leave()
