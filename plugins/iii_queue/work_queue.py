"""WorkQueue: the jobs of one queue, from the moment they are durable until they are done or dead.

Invariants:

* A job is one record of the store. It is acknowledged when its record is durable, gone when its deletion is.
  What lies between a handler's answer and that moment is run again after a crash: at least once, never lost.
* Jobs start in the order in which they were accepted, as far as their functions are there and their time has
  come. A job whose function is missing waits for it and holds back no other, but in its group.
* In a `fifo` queue a group has one job under way, its oldest; a failed one is tried again before the others.
* On a store that hosts share, a host writes its name into a record before it runs the job, for a time that it
  prolongs while the handler works. When that time is over, any host may take the job.
* A store that cannot be written holds a job back where it is: it is neither run again nor forgotten.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from iii_skill.companion import (
    KEEP,
    Call,
    Change,
    CompanionHost,
    Failure,
    Outcome,
    Result,
    Timer,
)
from iii_skill.errors import AdapterError, CallerError
from iii_skill.values import Keep

from .jobs import CACHED_BYTES, Job, Record, decode, encode, job_of
from .settings import JobLimits

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Seconds between tries to write what became of a job."""

COUNTED_AT_ONCE = 10_000
"""Jobs that are counted in one turn of the loop."""

Update = bytes | Literal[Keep.KEEP] | None


class QueueFull(CallerError):
    """The queue holds as many jobs as it may."""

    code = "enqueue_error"


class _Run(msgspec.Struct, eq=False):
    """One attempt: the call that is out, and when it is given up."""

    job: Job
    deadline: float
    call: Call | None = None
    over: bool = False
    ended: Callable[[], None] | None = None
    """Tells the observer through which the call went."""


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
        self.limits = limits
        self.jobs: dict[str, Job] = {}
        """Every job by key, in the order of acceptance as this host knows it."""
        self._host = host
        self._store = host.store
        self._me = me
        self._lease_s = lease_s
        self._max_jobs = max_jobs
        self._is_open = is_open
        self._admit = admit
        self._number = 0
        self._coming = 0
        self._ready: list[tuple[str, int, Job]] = []
        self._delayed: list[tuple[float, str, int, Job]] = []
        self._blocked: dict[tuple[str, str | None], list[Job]] = {}
        self._groups: dict[str, deque[Job]] = {}
        # In the order of their starts: the time-out is one for all, so the first is due first.
        self._runs: dict[Job, _Run] = {}
        self._delay_timer: Timer | None = None
        self._sweep_timer: Timer | None = None
        self._lease_timer: Timer | None = None
        self._scheduled = False
        self._stopped = False
        self._idle: asyncio.Future[None] | None = None
        self._unwritten = 0

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
                self._take_up(key, value)
        self._schedule()

    def accept(
        self, record: Record, done: Callable[[], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Store a new job and call `done` when it is durable; raises QueueFull."""
        if len(self.jobs) + self._coming >= self._max_jobs:
            raise QueueFull(
                f"the queue is full: it holds {self._max_jobs} jobs (setting max_jobs of iii-queue)"
            )
        self._number += 1
        key = f"{self._number:016d}-{record.id}"
        value = encode(record)
        self._coming += 1

        def stored(_subject: None, _change: Change) -> None:
            self._coming -= 1
            if key not in self.jobs:  # The feed of a shared store may have been quicker.
                self._enter(job_of(key, record, len(value)))
            done()
            self._schedule()

        def lost(_subject: None, error: BaseException) -> None:
            self._coming -= 1
            failed(error)

        self._store.settle(self._store.set(self.scope, key, value), None, stored, lost, key=(self.scope, key))

    def heard(self, change: Change) -> None:
        """A record changed, by this host or another one (shared stores only)."""
        job = self.jobs.get(change.key)
        if change.new is None:
            if job is not None and not job.running:
                self._forget(job)
        elif job is None:
            self._take_up(change.key, change.new)
        elif not job.running:
            self._renew(job, change.new)
        self._schedule()

    def wake(self) -> None:
        """Functions came or went: jobs that wait for one of them may start."""
        for target in [target for target in self._blocked if self._host.serves(*target)]:
            for job in self._blocked.pop(target):
                self._line_up(job)
        self._schedule()

    async def redrive(self, chosen: Callable[[Job], bool]) -> int:
        """Give dead letters their attempts back, oldest first; how many."""
        count = 0
        for job in self.dead:
            if not chosen(job):
                continue

            def revive(old: bytes | None) -> Update:
                record = _readable(old)
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
                self._renew(job, change.new)
                self._schedule()
        return count

    async def discard(self, chosen: Callable[[Job], bool]) -> int:
        """Delete dead letters; how many."""
        count = 0
        for job in self.dead:
            if chosen(job):
                await self._store.read(self._store.delete(self.scope, job.key))
                self._forget(job)
                count += 1
        return count

    async def purge(self) -> None:
        """Delete every job that does not run."""
        for job in [job for job in self.jobs.values() if not job.running]:
            self._forget(job)
            await self._store.read(self._store.delete(self.scope, job.key))

    async def dead_letter(self, job: Job) -> dict[str, Any]:
        """How a dead letter is shown, with its payload."""
        record = _readable(await self._store.read(self._store.get(self.scope, job.key)))
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
        self._stopped = True
        for timer in (self._delay_timer, self._lease_timer):
            if timer is not None:
                timer.cancel()
        if self._runs or self._unwritten:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    # From the store into line.

    def _take_up(self, key: str, value: bytes) -> None:
        number = key.partition("-")[0]
        if number.isascii() and number.isdigit():
            self._number = max(self._number, int(number))
        record = _readable(value)
        if record is None:
            self._host.log.error(
                "a job of %s cannot be read: it is kept as a dead letter (%s)", self.scope, key
            )
            reason = "the stored record cannot be read"
            self.jobs[key] = Job(key, key, "", None, None, 0, 0.0, True, len(value), error=reason)
            return
        self._enter(job_of(key, record, len(value)))

    def _renew(self, job: Job, value: bytes | None) -> None:
        """The record is another one now: what the index says follows it."""
        record = _readable(value)
        if record is None:
            self._forget(job)
            return
        before = (job.dead, job.ready_at)
        job.record = record if value is not None and len(value) <= CACHED_BYTES else None
        job.attempts, job.ready_at, job.dead = record.attempts, record.ready_at, record.dead
        job.error, job.failed_at = record.error, record.failed_at
        if job.dead and not before[0]:
            self._leave_group(job)
        elif before[0] and not job.dead:
            self._enter(job)
        elif not job.dead and job.ready_at != before[1]:
            self._line_up_head(job)

    def _enter(self, job: Job) -> None:
        self.jobs[job.key] = job
        if job.dead:
            return
        if not self.limits.fifo:
            self._line_up(job)
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
        self._line_up(job)

    def _line_up(self, job: Job) -> None:
        if job.ready_at > self._host.clock.now():
            heapq.heappush(self._delayed, (job.ready_at, job.key, id(job), job))
            self._arm_delay()
        else:
            heapq.heappush(self._ready, (job.key, id(job), job))

    def _leave_group(self, job: Job) -> None:
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
            self._line_up(group[0])

    def _forget(self, job: Job) -> None:
        job.gone = True
        self.jobs.pop(job.key, None)
        if not job.dead:
            self._leave_group(job)

    def _arm_delay(self) -> None:
        if self._stopped or not self._delayed:
            return
        due = self._delayed[0][0]
        if self._delay_timer is not None:
            if self._delay_timer.when <= due:
                return
            self._delay_timer.cancel()
        self._delay_timer = self._host.clock.call_at(due, self._delay_over)

    def _delay_over(self) -> None:
        self._delay_timer = None
        now = self._host.clock.now()
        while self._delayed and self._delayed[0][0] <= now:
            _, key, _, job = heapq.heappop(self._delayed)
            if not job.gone and not job.dead and not job.running and job.ready_at <= now:
                heapq.heappush(self._ready, (key, id(job), job))
        self._arm_delay()
        self._schedule()

    # Out of line, into a handler.

    def _schedule(self) -> None:
        """Start what may start, in a turn of its own: a handler that answers at once would recurse."""
        if not self._scheduled and not self._stopped and self._ready:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_ready)

    def _start_ready(self) -> None:
        self._scheduled = False
        if self._is_open is not None and not self._is_open():
            return
        now = self._host.clock.now()
        while self._ready and len(self._runs) < self.limits.concurrency and not self._stopped:
            _, _, job = heapq.heappop(self._ready)
            if job.gone or job.dead or job.running:
                continue
            if job.ready_at > now:
                self._line_up(job)
            elif not self._host.serves(*job.target):
                self._blocked.setdefault(job.target, []).append(job)
            else:
                self._start(job, now)

    def _start(self, job: Job, now: float) -> None:
        job.running = True
        run = self._runs[job] = _Run(job, now + self.limits.timeout_s)
        if self._sweep_timer is None:
            self._sweep_timer = self._host.clock.call_at(run.deadline, self._sweep)
        store, place = self._store, (self.scope, job.key)
        if store.shared:
            if self._lease_timer is None:
                self._lease_timer = self._host.clock.call_later(self._lease_s / 3, self._prolong)
            answer: Any = store.update(self.scope, job.key, self._claim(now))
            store.settle(answer, run, self._claimed, self._not_begun, key=place)
        elif job.record is None:
            store.settle(store.get(self.scope, job.key), run, self._found, self._not_begun, key=place)
        else:
            self._ask(run, job.record)

    def _claim(self, now: float) -> Callable[[bytes | None], Update]:
        def claim(old: bytes | None) -> Update:
            record = _readable(old)
            if record is None or record.dead:
                return KEEP
            if record.holder not in (None, self._me) and record.ready_at > now:
                return KEEP
            return encode(msgspec.structs.replace(record, holder=self._me, ready_at=now + self._lease_s))

        return claim

    def _claimed(self, run: _Run, change: Change) -> None:
        if not change.kept:
            assert change.new is not None
            self._ask(run, decode(change.new))
            return
        # Another host has it, or it is over.
        self._end(run)
        if change.old is None:
            self._forget(run.job)
        else:
            self._renew(run.job, change.old)

    def _found(self, run: _Run, value: bytes | None) -> None:
        record = _readable(value)
        if record is None:
            self._end(run)
            self._forget(run.job)
        else:
            self._ask(run, record)

    def _not_begun(self, run: _Run, error: BaseException) -> None:
        self._host.log.warning("a job of %s cannot be read now: %s", self.scope, error)
        self._end(run)
        run.job.ready_at = self._host.clock.now() + LONGEST_PAUSE_S
        self._line_up(run.job)

    def _ask(self, run: _Run, record: Record) -> None:
        """Ask the condition of a subscription, if there is one; only `false` skips the handler."""
        run.job.record = record
        if run.over:
            return
        if record.condition is None:
            self._call(run, record)
            return

        def judged(outcome: Outcome) -> None:
            if run.over:
                return
            if type(outcome) is Result:
                if outcome.value == b"false":
                    self._done(run)
                else:
                    self._call(run, record)
                return
            assert isinstance(outcome, Failure)
            self._failed(run, f"Condition function error: {outcome.code}: {outcome.message}")

        run.call = Call(
            record.condition, bytes(record.data), judged, record.namespace, invocation_id=f"{record.id}?"
        )
        self._host.invoke(run.call)

    def _call(self, run: _Run, record: Record) -> None:
        def answered(outcome: Outcome) -> None:
            if run.over:
                return
            if type(outcome) is Result:
                self._done(run)
            elif isinstance(outcome, Failure) and outcome.code == "function_not_found":
                # It went between the look and the call: no attempt was made.
                self._end(run)
                if self._store.shared:
                    self._write(run.job, self._released, then=lambda: self._line_up(run.job))
                else:
                    self._line_up(run.job)
            else:
                assert isinstance(outcome, Failure)
                self._failed(run, f"{outcome.code}: {outcome.message}")

        run.call = Call(
            record.function_id,
            bytes(record.data),
            answered,
            record.namespace,
            metadata=None if record.metadata is None else bytes(record.metadata),
            traceparent=record.traceparent,
            baggage=record.baggage,
            invocation_id=f"{record.id}:{record.attempts}",
        )
        if self._admit is not None:
            admitted = self._admit(run.call)
            if admitted is None:
                self._done(run)
                return
            if isinstance(admitted, Failure):
                self._put_off(run)
                return
            run.ended = admitted
        self._host.invoke(run.call)

    def _put_off(self, run: _Run) -> None:
        """No attempt was made; the job waits a moment for its turn."""
        job = run.job
        ready_at = self._host.clock.now() + FIRST_PAUSE_S
        self._end(run, keep_running=True)

        def over() -> None:
            job.running, job.ready_at = False, ready_at
            self._line_up(job)

        self._write(
            job,
            lambda old: encode(msgspec.structs.replace(old, holder=None, ready_at=ready_at)),
            then=over,
        )

    # What became of it.

    def _done(self, run: _Run) -> None:
        job = run.job
        run.over = True
        if not self.limits.fifo:
            # The place is free for the next one; in a group the next waits until this one cannot come back.
            self._end(run, keep_running=True)

        def over() -> None:
            self._end(run)
            self._forget(job)
            self._schedule()

        self._write(job, self._deleted, then=over)

    def _failed(self, run: _Run, reason: str) -> None:
        job = run.job
        run.over = True
        now = self._host.clock.now()
        failures = job.attempts + 1
        dead = failures >= self.limits.attempts
        ready_at = 0.0 if dead else now + self.limits.pause(failures)
        assert job.record is not None
        record = msgspec.structs.replace(
            job.record,
            attempts=failures,
            ready_at=ready_at,
            dead=dead,
            error=reason,
            failed_at=now,
            holder=None,
        )
        if not self.limits.fifo:
            self._end(run, keep_running=True)

        def over() -> None:
            self._end(run)
            job.attempts, job.ready_at, job.dead = failures, ready_at, dead
            job.error, job.failed_at, job.record = reason, now, record
            if dead:
                self._host.log.warning(
                    "%s failed %d times, its job is a dead letter of %s: %s",
                    job.function_id,
                    failures,
                    self.scope,
                    reason,
                )
                self._leave_group(job)
            else:
                self._line_up(job)
            self._schedule()

        self._write(job, lambda _old: encode(record), then=over)

    def _deleted(self, _old: Record) -> bytes | None:
        return None

    def _released(self, old: Record) -> bytes | None:
        return encode(msgspec.structs.replace(old, holder=None, ready_at=0.0))

    def _write(self, job: Job, new: Callable[[Record], bytes | None], *, then: Callable[[], None]) -> None:
        """Store what became of a job, trying again until the store takes it; then go on."""
        pause = FIRST_PAUSE_S
        self._unwritten += 1
        mine = (None, self._me)

        def change(old: bytes | None) -> Update:
            record = _readable(old)
            if record is None or record.holder not in mine:
                # Discarded meanwhile, or taken by another host when this one was too slow.
                return KEEP
            return new(record)

        def begin() -> None:
            store = self._store
            if not store.shared and new == self._deleted:
                answer = store.delete(self.scope, job.key)
            else:
                answer = store.update(self.scope, job.key, change)
            store.settle(answer, None, written, failed, key=(self.scope, job.key))

        def written(_subject: None, _change: Change) -> None:
            self._unwritten -= 1
            then()
            self._settle_idle()

        def failed(_subject: None, error: BaseException) -> None:
            nonlocal pause
            if not isinstance(error, AdapterError):
                self._host.log.error("a job of %s could not be written", self.scope, exc_info=error)
            elif pause == FIRST_PAUSE_S:
                self._host.log.warning("a job of %s waits for the store: %s", self.scope, error.message)
            self._host.clock.call_later(pause, begin)
            pause = min(pause * 2, LONGEST_PAUSE_S)

        begin()

    def _end(self, run: _Run, *, keep_running: bool = False) -> None:
        """The attempt is over; `keep_running` holds the job itself back until its record is written."""
        run.over = True
        run.job.running = keep_running
        if run.ended is not None:
            run.ended()
            run.ended = None
        if self._runs.pop(run.job, None) is not None:
            self._schedule()
        self._settle_idle()

    def _settle_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._runs and not self._unwritten:
            self._idle.set_result(None)

    def _sweep(self) -> None:
        """Give up the attempts whose time is over."""
        self._sweep_timer = None
        now = self._host.clock.now()
        for run in list(self._runs.values()):
            if run.deadline > now:
                self._sweep_timer = self._host.clock.call_at(run.deadline, self._sweep)
                return
            if run.call is not None and not run.over:
                self._host.abandon(run.call)
                self._failed(run, f"TIMEOUT: no answer within {self.limits.timeout_s:g} s")

    def _prolong(self) -> None:
        """Other hosts must not take what still runs here."""
        self._lease_timer = None
        if not self._runs:
            return
        until = self._host.clock.now() + self._lease_s

        def prolong(old: bytes | None) -> Update:
            record = _readable(old)
            if record is None or record.holder != self._me:
                return KEEP
            return encode(msgspec.structs.replace(record, ready_at=until))

        for job in self._runs:
            self._store.settle(
                self._store.update(self.scope, job.key, prolong),
                job,
                lambda _job, _change: None,
                lambda job, error: self._host.log.warning(
                    "the lease of %s is not prolonged: %s", job.id, error
                ),
                key=(self.scope, job.key),
            )
        self._lease_timer = self._host.clock.call_later(self._lease_s / 3, self._prolong)


def _readable(value: bytes | None) -> Record | None:
    """The record, or None when there is none or nobody can read it."""
    if value is None:
        return None
    try:
        return decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
