"""Follow the changes of all hosts from a position: in order, each once, over lost connections.

The position names the last change that was taken, so that a connection that is made again goes on behind it.
Where the server has forgotten what came after the position, that is logged, because then changes are missing.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from iii_skill.adapters.shared.connection_keeper import LONGEST_PAUSE, Pauses, end_tasks
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change

log = logging.getLogger(__name__)

P = TypeVar("P")

GATHER = 0.002
"""Changes that follow each other closely are read together: the first waits for nobody."""
MOST_READY_BYTES = 16 * 1024 * 1024
"""Changes that nobody has taken yet; more stay at the server."""


class ChangeFollower(abc.ABC, Generic[P]):
    """The position in one ordered log of changes, and the way to what comes after it."""

    def __init__(self) -> None:
        self.position: P | None = None

    @abc.abstractmethod
    async def newest(self) -> P:
        """The end of the log as of now."""

    @abc.abstractmethod
    async def after(self, position: P) -> tuple[Sequence[Change], P]:
        """The next changes and the position of the last of them; may wait a while for some, and give none.

        AdapterUnavailable and AdapterTimeout are waited out without a word, other AdapterErrors with one.
        """

    @abc.abstractmethod
    async def release(self) -> None:
        """Give up the connection, if there is one: after an error, and at the end."""

    async def failed(self, error: AdapterError) -> None:
        """What `newest` or `after` raised; override it where the connection may be kept."""
        await self.release()

    def stand(self, position: P) -> None:
        """Begin here; nothing once there is a position: a later one would skip what came between."""
        if self.position is None:
            self.position = position

    async def follow(self, ready: ReadyChanges) -> None:
        """Put what comes after the position into `ready`, for ever; faults are waited out."""
        pauses = Pauses()
        said = ""
        try:
            while True:
                try:
                    if self.position is None:
                        self.stand(await self.newest())
                    assert self.position is not None
                    changes, position = await self.after(self.position)
                except (AdapterUnavailable, AdapterTimeout) as error:
                    await self.failed(error)
                    await pauses.wait()
                    continue
                except AdapterError as error:
                    # A missing right, a broken table: only somebody else can mend it.
                    if error.message != said:
                        log.error("The changes of other hosts cannot be read: %s Trying again.", error)
                        said = error.message
                    await self.failed(error)
                    await asyncio.sleep(LONGEST_PAUSE)
                    continue
                pauses.reset()
                said = ""
                if changes:
                    await ready.put(changes)
                self.position = position
                if changes:
                    await asyncio.sleep(GATHER)
        finally:
            await self.release()


class ReadyChanges:
    """What followers have read and nobody has taken yet, bounded by bytes."""

    def __init__(self) -> None:
        self._changes: deque[Change] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    async def put(self, changes: Sequence[Change]) -> None:
        """Add them as soon as there is room."""
        while self._bytes > MOST_READY_BYTES:
            self._taken.clear()
            await self._taken.wait()
        self._changes.extend(changes)
        self._bytes += sum(map(_size, changes))
        self._filled.set()

    def take(self) -> Change | None:
        """The next one, None when there is none."""
        if not self._changes:
            return None
        change = self._changes.popleft()
        self._bytes -= _size(change)
        self._taken.set()
        return change

    async def filled(self) -> None:
        """Wait until there may be one."""
        if not self._changes:
            self._filled.clear()
            await self._filled.wait()

    def wake(self) -> None:
        """Let who waits have a look."""
        self._filled.set()


def _size(change: Change) -> int:
    return len(change.old or b"") + len(change.new or b"") + 200


class FollowedChanges:
    """An async iterator over what some followers read; it ends when it is closed."""

    def __init__(
        self, followers: Sequence[ChangeFollower[Any]], closed: Callable[[FollowedChanges], None]
    ) -> None:
        """`closed` is called when it has ended."""
        self.followers = followers
        self._closed = closed
        self._ready = ReadyChanges()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False

    def __aiter__(self) -> FollowedChanges:
        return self

    async def __anext__(self) -> Change:
        if not self._ended and not self._tasks:
            self._tasks = [asyncio.create_task(f.follow(self._ready)) for f in self.followers]
        while not self._ended:
            change = self._ready.take()
            if change is not None:
                return change
            await self._ready.filled()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop reading; who waits for the next change gets the end."""
        if not self._ended:
            self._ended = True
            self._closed(self)
        self._ready.wake()
        await end_tasks(*self._tasks)
