"""Trimmer: keeps the log of changes within its bounds, beside the calls."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any

from iii_skill.adapters.shared import Swap, end_tasks
from iii_skill.errors import AdapterError
from iii_skill.values import MAX_REVISION

from .config import PostgresConfig
from .history import History
from .layout import ALL_BUCKETS, BUCKETS, place_of
from .session import OnSession, Session
from .statements import Statements

log = logging.getLogger(__name__)

SLICE = 2_000
"""Changes that one transaction deletes."""


class Trimmer:
    """Deletes the oldest changes of a bucket when this host has added an eighth of what is kept."""

    def __init__(
        self, config: PostgresConfig, statements: Statements, scan: OnSession, history: History | None
    ) -> None:
        self._config = config
        self._statements = statements
        self._scan = scan
        self._history = history
        self._changes = [0] * len(ALL_BUCKETS)
        self._bytes = [0] * len(ALL_BUCKETS)
        self._due: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    def wrote(self, swaps: Sequence[Swap]) -> None:
        """Count what was added to the log."""
        for swap in swaps:
            bucket = place_of(swap.scope).bucket
            self._changes[bucket] += len(swap.values)
            # Each value is there twice: as the new one, then as the old one.
            self._bytes[bucket] += 2 * sum(len(value or b"") for value in swap.values)
            many = 8 * self._changes[bucket] >= self._config.changes_kept
            if many or 8 * self._bytes[bucket] >= self._config.change_bytes:
                self._changes[bucket] = self._bytes[bucket] = 0
                self._due.add(bucket)
        if self._due:
            self._begin()

    async def trim_all(self) -> None:
        """Cut every bucket now."""
        self._due.update(ALL_BUCKETS)
        await asyncio.wait({self._begin()})

    async def close(self) -> None:
        """Stop; what is left over goes the next time."""
        if self._task is not None:
            await end_tasks(self._task)

    def _begin(self) -> asyncio.Task[None]:
        """The task that cuts what is due."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._trim())
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None

    async def _trim(self) -> None:
        while self._due:
            bucket = self._due.pop()
            left = True
            try:
                if self._history is not None and bucket in BUCKETS:
                    await self._history.note(bucket)
                while left:
                    ((cut,),) = await self._scan(functools.partial(self._cut, bucket))
                    left = cut == SLICE
            except AdapterError as error:
                log.warning("The log of changes could not be cut: %s", error)
                return

    async def _cut(self, bucket: int, session: Session) -> Sequence[Any]:
        bounds = (self._config.changes_kept, self._config.change_bytes)
        upto = MAX_REVISION
        if self._history is not None and bucket in BUCKETS:
            # What is not copied yet stays; the next time there is less of it.
            ((upto,),) = await session.fetch(self._statements.noted, bucket)
        return await session.fetch(self._statements.trim, bucket, *bounds, SLICE, upto)
