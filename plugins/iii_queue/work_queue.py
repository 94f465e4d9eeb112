"""WorkQueue: the jobs of one queue, from the moment they are durable until they are done or dead.

Invariants:

* A job is one record of the store. It is acknowledged when its record is durable, gone when its deletion is.
* Jobs start in the order in which they were accepted, as far as their functions are there and their time has
  come. A job whose function is missing waits for it and holds back no other, but in its group.
* In a `fifo` queue a group has one job under way, its oldest; a failed one is tried again before the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from iii_skill.companion import KEEP, Call, Change, CompanionHost, Failure
from iii_skill.errors import CallerError

from .attempts import Attempts
from .job_index import JobIndex
from .job_records import Update
from .jobs import Job, Record, encode, job_of, readable
from .settings import JobLimits

COUNTED_AT_ONCE = 10_000
"""Jobs that are counted in one turn of the loop."""


class QueueFull(CallerError):
    """The queue holds as many jobs as it may."""

    code = "enqueue_error"


class WorkQueue:
    """One queue. All methods are called on the event loop."""

    def __init__(
        self,
        host: CompanionHost,
        scope: str,
        limits: JobLimits,
        *,
        me: str,
        lease_s: float,
        max_jobs: int,
        is_open: Callable[[], bool] | None = None,
        admit: Callable[[Call], Callable[[], None] | Failure | None] | None = None,
    ) -> None:
        """`is_open` says whether jobs may start at all; `wake` asks it again.

        `admit` lets each call in: what is called when it has ended, why it must wait, or None: the job is
        done without it.
        """
        self.scope = scope
        self._index = JobIndex(scope, limits, host.clock, host.log)
        self.jobs = self._index.jobs
        """Every job by key, in the order of acceptance as this host knows it."""
        self._attempts = Attempts(
            host, scope, self._index, me=me, lease_s=lease_s, is_open=is_open, admit=admit
        )
        self._host = host
        self._store = host.store
        self._max_jobs = max_jobs
        self._coming = 0

    @property
    def limits(self) -> JobLimits:
        """How its jobs run from now on."""
        return self._index.limits

    @limits.setter
    def limits(self, limits: JobLimits) -> None:
        self._index.limits = limits

    # What is in it.

    @property
    def depth(self) -> int:
        """Jobs that wait or run; neither those that wait for their next attempt nor the dead."""
        now = self._host.clock.now()
        return sum(1 for job in self.jobs.values() if not job.dead and (job.running or job.ready_at <= now))

    async def states(self) -> dict[str, int]:
        """How many jobs wait, run, wait for their next attempt and are dead; others have turns meanwhile."""
        counts = {"waiting": 0, "running": 0, "delayed": 0, "dead": 0}
        jobs, now = list(self.jobs.values()), self._host.clock.now()
        for start in range(0, len(jobs), COUNTED_AT_ONCE):
            for job in jobs[start : start + COUNTED_AT_ONCE]:
                if job.dead:
                    counts["dead"] += 1
                elif job.running:
                    counts["running"] += 1
                else:
                    counts["waiting" if job.ready_at <= now else "delayed"] += 1
            await asyncio.sleep(0)
        return counts

    @property
    def dead(self) -> list[Job]:
        """The dead letters, oldest first."""
        return [job for job in self.jobs.values() if job.dead]

    def load(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Take up what the store holds; a record that cannot be read is a dead letter."""
        for key, value in rows:
            if key not in self.jobs:
                self._index.take_up(key, value)
        self._attempts.schedule()

    def accept(
        self, record: Record, done: Callable[[], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Store a new job and call `done` when it is durable; raises QueueFull."""
        if len(self.jobs) + self._coming >= self._max_jobs:
            raise QueueFull(
                f"the queue is full: it holds {self._max_jobs} jobs (setting max_jobs of iii-queue)"
            )
        self._index.number += 1
        key = f"{self._index.number:016d}-{record.id}"
        value = encode(record)
        self._coming += 1

        def stored(_subject: None, _change: Change) -> None:
            self._coming -= 1
            if key not in self.jobs:  # The feed of a shared store may have been quicker.
                self._index.enter(job_of(key, record, len(value)))
            done()
            self._attempts.schedule()

        def lost(_subject: None, error: BaseException) -> None:
            self._coming -= 1
            failed(error)

        self._store.settle(self._store.set(self.scope, key, value), None, stored, lost, key=(self.scope, key))

    def heard(self, change: Change) -> None:
        """A record changed, by this host or another one (shared stores only)."""
        job = self.jobs.get(change.key)
        if change.new is None:
            if job is not None and not job.running:
                self._index.forget(job)
        elif job is None:
            self._index.take_up(change.key, change.new)
        elif not job.running:
            self._index.renew(job, change.new)
        self._attempts.schedule()

    def wake(self) -> None:
        """Functions came or went: jobs that wait for one of them may start."""
        self._index.unblock(self._host.serves)
        self._attempts.schedule()

    async def redrive(self, chosen: Callable[[Job], bool]) -> int:
        """Give dead letters their attempts back, oldest first; how many."""
        count = 0
        for job in self.dead:
            if not chosen(job):
                continue

            def revive(old: bytes | None) -> Update:
                record = readable(old)
                if record is None or not record.dead:
                    return KEEP
                return encode(
                    msgspec.structs.replace(
                        record, dead=False, attempts=0, ready_at=0.0, error=None, failed_at=0.0, holder=None
                    )
                )

            change = await self._store.read(self._store.update(self.scope, job.key, revive))
            if not change.kept:
                count += 1
                self._index.renew(job, change.new)
                self._attempts.schedule()
        return count

    async def discard(self, chosen: Callable[[Job], bool]) -> int:
        """Delete dead letters; how many."""
        count = 0
        for job in self.dead:
            if chosen(job):
                await self._store.read(self._store.delete(self.scope, job.key))
                self._index.forget(job)
                count += 1
        return count

    async def purge(self) -> None:
        """Delete every job that does not run."""
        for job in [job for job in self.jobs.values() if not job.running]:
            self._index.forget(job)
            await self._store.read(self._store.delete(self.scope, job.key))

    async def dead_letter(self, job: Job) -> dict[str, Any]:
        """How a dead letter is shown, with its payload."""
        record = readable(await self._store.read(self._store.get(self.scope, job.key)))
        return {
            "id": job.id,
            "payload": None if record is None else record.data,
            "error": job.error,
            "failed_at": int(job.failed_at),
            "retries": job.attempts,
            "size_bytes": job.size if record is None else len(bytes(record.data)),
        }

    async def stop(self) -> None:
        """Start nothing more; wait until what runs has ended and is written."""
        self._index.stop()
        await self._attempts.stop()
