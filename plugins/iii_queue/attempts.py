"""Attempts: the jobs of one queue that run, from the line to what became of each.

What lies between a handler's answer and the moment at which that is durable is run again after a crash: at
least once, never lost.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from iii_skill.companion import Call, Change, CompanionHost, Failure, Outcome, Result, Timer

from .job_index import JobIndex
from .job_records import JobRecords
from .jobs import Job, Record, decode, encode, readable

PUT_OFF_S = 0.1
"""Seconds after which a job is tried again that found no room."""
UNREADABLE_S = 5.0
"""The same of one whose record cannot be read now."""


class _Run(msgspec.Struct, eq=False):
    """One attempt: the call that is out, and when it is given up."""

    job: Job
    deadline: float
    call: Call | None = None
    over: bool = False
    ended: Callable[[], None] | None = None
    """Tells the observer through which the call went."""


class Attempts:
    """What runs of one queue. All methods are called on the event loop."""

    def __init__(
        self,
        host: CompanionHost,
        scope: str,
        index: JobIndex,
        *,
        me: str,
        lease_s: float,
        is_open: Callable[[], bool] | None,
        admit: Callable[[Call], Callable[[], None] | Failure | None] | None,
    ) -> None:
        """`is_open` and `admit` as WorkQueue is given them."""
        self._host = host
        self._store = host.store
        self._scope = scope
        self._index = index
        self._records = JobRecords(host, scope, me=me, lease_s=lease_s, written=self._settle_idle)
        self._lease_s = lease_s
        self._is_open = is_open
        self._admit = admit
        # In the order of their starts: the time-out is one for all, so the first is due first.
        self._runs: dict[Job, _Run] = {}
        self._sweep_timer: Timer | None = None
        self._lease_timer: Timer | None = None
        self._scheduled = False
        self._stopped = False
        self._idle: asyncio.Future[None] | None = None
        index.on_due = self.schedule

    async def stop(self) -> None:
        """Start nothing more; wait until what runs has ended and is written."""
        self._stopped = True
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        if self._runs or self._records.unwritten:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def schedule(self) -> None:
        """Start what may start, in a turn of its own: a handler that answers at once would recurse."""
        if not self._scheduled and not self._stopped and self._index.waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_ready)

    def _start_ready(self) -> None:
        self._scheduled = False
        if self._is_open is not None and not self._is_open():
            return
        while len(self._runs) < self._index.limits.concurrency and not self._stopped:
            job = self._index.next()
            if job is None:
                return
            if self._host.serves(*job.target):
                self._start(job)
            else:
                self._index.block(job)

    def _start(self, job: Job) -> None:
        now = self._host.clock.now()
        job.running = True
        run = self._runs[job] = _Run(job, now + self._index.limits.timeout_s)
        if self._sweep_timer is None:
            self._sweep_timer = self._host.clock.call_at(run.deadline, self._sweep)
        store, place = self._store, (self._scope, job.key)
        if store.shared:
            if self._lease_timer is None:
                self._lease_timer = self._host.clock.call_later(self._lease_s / 3, self._prolong)
            answer: Any = self._records.claim(job, now)
            store.settle(answer, run, self._claimed, self._not_begun, key=place)
        elif job.record is None:
            store.settle(store.get(self._scope, job.key), run, self._found, self._not_begun, key=place)
        else:
            self._ask(run, job.record)

    def _claimed(self, run: _Run, change: Change) -> None:
        if not change.kept:
            assert change.new is not None
            self._ask(run, decode(change.new))
            return
        # Another host has it, or it is over.
        self._end(run)
        if change.old is None:
            self._index.forget(run.job)
        else:
            self._index.renew(run.job, change.old)

    def _found(self, run: _Run, value: bytes | None) -> None:
        record = readable(value)
        if record is None:
            self._end(run)
            self._index.forget(run.job)
        else:
            self._ask(run, record)

    def _not_begun(self, run: _Run, error: BaseException) -> None:
        self._host.log.warning("a job of %s cannot be read now: %s", self._scope, error)
        self._end(run)
        run.job.ready_at = self._host.clock.now() + UNREADABLE_S
        self._index.line_up(run.job)

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
            record.condition, bytes(record.data), judged, record.namespace, invocation_id=str(uuid.uuid4())
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
                    self._records.release(run.job, then=lambda: self._index.line_up(run.job))
                else:
                    self._index.line_up(run.job)
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
            invocation_id=str(uuid.uuid4()),
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
        ready_at = self._host.clock.now() + PUT_OFF_S
        self._end(run, keep_running=True)

        def over() -> None:
            job.running, job.ready_at = False, ready_at
            self._index.line_up(job)

        self._records.write(
            job,
            lambda old: encode(msgspec.structs.replace(old, holder=None, ready_at=ready_at)),
            then=over,
        )

    # What became of it.

    def _done(self, run: _Run) -> None:
        job = run.job
        run.over = True
        if not self._index.limits.fifo:
            # The place is free for the next one; in a group the next waits until this one cannot come back.
            self._end(run, keep_running=True)

        def over() -> None:
            self._end(run)
            self._index.forget(job)
            self.schedule()

        self._records.delete(job, then=over)

    def _failed(self, run: _Run, reason: str) -> None:
        job = run.job
        run.over = True
        now = self._host.clock.now()
        failures = job.attempts + 1
        dead = failures >= self._index.limits.attempts
        ready_at = 0.0 if dead else now + self._index.limits.pause(failures)
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
        if not self._index.limits.fifo:
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
                    self._scope,
                    reason,
                    extra={"traceparent": record.traceparent},
                )
                self._index.leave_group(job)
            else:
                self._index.line_up(job)
            self.schedule()

        self._records.write(job, lambda _old: encode(record), then=over)

    def _end(self, run: _Run, *, keep_running: bool = False) -> None:
        """The attempt is over; `keep_running` holds the job itself back until its record is written."""
        run.over = True
        run.job.running = keep_running
        if run.ended is not None:
            run.ended()
            run.ended = None
        if self._runs.pop(run.job, None) is not None:
            self.schedule()
        self._settle_idle()

    def _settle_idle(self) -> None:
        if (
            self._idle is not None
            and not self._idle.done()
            and not self._runs
            and not self._records.unwritten
        ):
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
                self._failed(run, f"TIMEOUT: no answer within {self._index.limits.timeout_s:g} s")

    def _prolong(self) -> None:
        """Other hosts must not take what still runs here."""
        self._lease_timer = None
        if not self._runs:
            return
        self._records.prolong(self._runs)
        self._lease_timer = self._host.clock.call_later(self._lease_s / 3, self._prolong)
