"""JobRecords: what is stored of the jobs of one queue that run: who holds each, and what became of it.

* On a store that hosts share, a host writes its name into a record before it runs the job, for a time that it
  prolongs while the handler works. When that time is over, any host may take the job.
* A store that cannot be written holds a job back where it is: it is neither run again nor forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import msgspec

from iii_skill.companion import KEEP, Change, CompanionHost
from iii_skill.errors import AdapterError
from iii_skill.values import Keep

from .jobs import Job, Record, encode, readable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Seconds between tries to write what became of a job."""

Update: TypeAlias = bytes | Literal[Keep.KEEP] | None


class JobRecords:
    """Writes records for one host, which is `me`; a record that another host holds stays as it is."""

    def __init__(
        self, host: CompanionHost, scope: str, *, me: str, lease_s: float, written: Callable[[], None]
    ) -> None:
        """`written` is called whenever there is one less that is `unwritten`."""
        self._host = host
        self._store = host.store
        self._scope = scope
        self._me = me
        self._lease_s = lease_s
        self._written = written
        self.unwritten = 0
        """Jobs that are over, and whose records do not say so yet."""

    def claim(self, job: Job, now: float) -> Any:
        """Write who runs the job; the answer of the store, KEEP where another host does or it is over."""

        def claim(old: bytes | None) -> Update:
            record = readable(old)
            if record is None or record.dead:
                return KEEP
            if record.holder not in (None, self._me) and record.ready_at > now:
                return KEEP
            return encode(msgspec.structs.replace(record, holder=self._me, ready_at=now + self._lease_s))

        return self._store.update(self._scope, job.key, claim)

    def prolong(self, jobs: Iterable[Job]) -> None:
        """Other hosts must not take what still runs here."""
        until = self._host.clock.now() + self._lease_s

        def prolong(old: bytes | None) -> Update:
            record = readable(old)
            if record is None or record.holder != self._me:
                return KEEP
            return encode(msgspec.structs.replace(record, ready_at=until))

        for job in jobs:
            self._store.settle(
                self._store.update(self._scope, job.key, prolong),
                job,
                lambda _job, _change: None,
                lambda job, error: self._host.log.warning(
                    "the lease of %s is not prolonged: %s", job.id, error
                ),
                key=(self._scope, job.key),
            )

    def delete(self, job: Job, *, then: Callable[[], None]) -> None:
        """The job is done."""
        self.write(job, _nothing, then=then)

    def release(self, job: Job, *, then: Callable[[], None]) -> None:
        """No attempt was made: any host may take it."""
        self.write(
            job, lambda old: encode(msgspec.structs.replace(old, holder=None, ready_at=0.0)), then=then
        )

    def write(self, job: Job, new: Callable[[Record], bytes | None], *, then: Callable[[], None]) -> None:
        """Store what became of a job, trying again until the store takes it; then go on."""
        pause = FIRST_PAUSE_S
        self.unwritten += 1
        mine = (None, self._me)

        def change(old: bytes | None) -> Update:
            record = readable(old)
            if record is None or record.holder not in mine:
                # Discarded meanwhile, or taken by another host when this one was too slow.
                return KEEP
            return new(record)

        def begin() -> None:
            store = self._store
            if not store.shared and new is _nothing:
                # Nobody else can have taken it: there is no need to look.
                answer = store.delete(self._scope, job.key)
            else:
                answer = store.update(self._scope, job.key, change)
            store.settle(answer, None, written, failed, key=(self._scope, job.key))

        def written(_subject: None, _change: Change) -> None:
            self.unwritten -= 1
            then()
            self._written()

        def failed(_subject: None, error: BaseException) -> None:
            nonlocal pause
            if not isinstance(error, AdapterError):
                self._host.log.error("a job of %s could not be written", self._scope, exc_info=error)
            elif pause == FIRST_PAUSE_S:
                # Once, not with every try.
                self._host.log.warning("a job of %s waits for the store: %s", self._scope, error.message)
            self._host.clock.call_later(pause, begin)
            pause = min(pause * 2, LONGEST_PAUSE_S)

        begin()


def _nothing(_old: Record) -> None:
    """What is stored of a job that is done."""
