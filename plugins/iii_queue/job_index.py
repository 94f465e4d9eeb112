"""JobIndex: the jobs of one queue that are not done, and which of them may start next.

* Jobs stand in line in the order in which they were accepted; one whose time has not come stands aside.
* In a `fifo` queue a group has one job in line, its oldest.
"""

from __future__ import annotations

import heapq
import logging
from bisect import insort
from collections import deque
from collections.abc import Callable

from iii_skill.companion import Clock, Timer

from .jobs import CACHED_BYTES, Job, job_of, readable
from .settings import JobLimits


class JobIndex:
    """What a host knows of the jobs of one queue."""

    def __init__(self, scope: str, limits: JobLimits, clock: Clock, log: logging.Logger) -> None:
        self.limits = limits
        self.jobs: dict[str, Job] = {}
        """Every job by key, in the order of acceptance as this host knows it."""
        self.number = 0
        """The highest number of a key so far."""
        self.on_due: Callable[[], None] = lambda: None
        """Called when jobs that stood aside are in line."""
        self._scope = scope
        self._clock = clock
        self._log = log
        self._ready: list[tuple[str, int, Job]] = []
        self._delayed: list[tuple[float, str, int, Job]] = []
        self._blocked: dict[tuple[str, str | None], list[Job]] = {}
        self._groups: dict[str, deque[Job]] = {}
        self._delay_timer: Timer | None = None
        self._stopped = False

    @property
    def waiting(self) -> bool:
        """True while a job is in line."""
        return bool(self._ready)

    def next(self) -> Job | None:
        """The next job that may start, out of line; None when there is none."""
        now = self._clock.now()
        while self._ready:
            _, _, job = heapq.heappop(self._ready)
            if job.gone or job.dead or job.running:
                continue
            if job.ready_at <= now:
                return job
            self.line_up(job)
        return None

    def block(self, job: Job) -> None:
        """Its function is missing: it waits for `unblock`."""
        self._blocked.setdefault(job.target, []).append(job)

    def unblock(self, serves: Callable[[str, str | None], bool]) -> None:
        """Put those in line whose function is there."""
        for target in [target for target in self._blocked if serves(*target)]:
            for job in self._blocked.pop(target):
                self.line_up(job)

    def stop(self) -> None:
        """Nothing is due any more."""
        self._stopped = True
        if self._delay_timer is not None:
            self._delay_timer.cancel()

    def take_up(self, key: str, value: bytes) -> None:
        """A record of the store; one that cannot be read is a dead letter."""
        number = key.partition("-")[0]
        if number.isascii() and number.isdigit():
            self.number = max(self.number, int(number))
        record = readable(value)
        if record is None:
            self._log.error("a job of %s cannot be read: it is kept as a dead letter (%s)", self._scope, key)
            reason = "the stored record cannot be read"
            self.jobs[key] = Job(key, key, "", None, None, 0, 0.0, True, len(value), error=reason)
            return
        self.enter(job_of(key, record, len(value)))

    def renew(self, job: Job, value: bytes | None) -> None:
        """The record is another one now: what the index says follows it."""
        record = readable(value)
        if record is None:
            self.forget(job)
            return
        before = (job.dead, job.ready_at)
        job.record = record if value is not None and len(value) <= CACHED_BYTES else None
        job.attempts, job.ready_at, job.dead = record.attempts, record.ready_at, record.dead
        job.error, job.failed_at = record.error, record.failed_at
        if job.dead and not before[0]:
            self.leave_group(job)
        elif before[0] and not job.dead:
            self.enter(job)
        elif not job.dead and job.ready_at != before[1]:
            self._line_up_head(job)

    def enter(self, job: Job) -> None:
        """A job that is not dead stands in line."""
        self.jobs[job.key] = job
        if job.dead:
            return
        if not self.limits.fifo:
            self.line_up(job)
            return
        group = self._groups.setdefault(job.group or "", deque())
        if group and job.key < group[-1].key:
            ordered = list(group)
            insort(ordered, job, key=lambda one: one.key)
            self._groups[job.group or ""] = group = deque(ordered)
        else:
            group.append(job)
        self._line_up_head(job)

    def _line_up_head(self, job: Job) -> None:
        """In a fifo queue only the oldest job of a group stands in line."""
        if self.limits.fifo:
            group = self._groups.get(job.group or "")
            if not group or group[0] is not job:
                return
        self.line_up(job)

    def line_up(self, job: Job) -> None:
        """Put it where its time says: a job may stand in line twice, and then starts once."""
        if job.ready_at > self._clock.now():
            heapq.heappush(self._delayed, (job.ready_at, job.key, id(job), job))
            self._arm_delay()
        else:
            heapq.heappush(self._ready, (job.key, id(job), job))

    def leave_group(self, job: Job) -> None:
        """The job is done or dead: the next of its group may start."""
        if not self.limits.fifo:
            return
        group = self._groups.get(job.group or "")
        if group is None or job not in group:
            return
        was_head = group[0] is job
        group.remove(job)
        if not group:
            del self._groups[job.group or ""]
        elif was_head:
            self.line_up(group[0])

    def forget(self, job: Job) -> None:
        """It is done, or discarded."""
        job.gone = True
        self.jobs.pop(job.key, None)
        if not job.dead:
            self.leave_group(job)

    def _arm_delay(self) -> None:
        if self._stopped or not self._delayed:
            return
        due = self._delayed[0][0]
        if self._delay_timer is not None:
            if self._delay_timer.when <= due:
                return
            self._delay_timer.cancel()
        self._delay_timer = self._clock.call_at(due, self._delay_over)

    def _delay_over(self) -> None:
        self._delay_timer = None
        now = self._clock.now()
        while self._delayed and self._delayed[0][0] <= now:
            _, key, _, job = heapq.heappop(self._delayed)
            if not job.gone and not job.dead and not job.running and job.ready_at <= now:
                heapq.heappush(self._ready, (key, id(job), job))
        self._arm_delay()
        self.on_due()
