"""Batches: the writes of each tick of the event loop, from the first one until they are committed.

Numbers rise by one, so a batch is found by its number: first those that were handed to the writer, in order,
then `current`, which takes writes. A key is in `dirty` exactly while its last write is in `current`, and
`hand_over` is due exactly while something is. A value is durable when the batch of its key is not above
`committed`; whatever would show one that is not waits in that batch. Batches are answered in order, and
within one batch those who wait in the order of their calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from iii_skill.adapter import Deferred
from iii_state_file.checksums import expiry_checksum, row_checksum
from iii_state_file.key_cache import CachedKey
from iii_state_file.scan_reader import Scan
from iii_state_file.store import FileStore
from iii_state_file.trimming import Bounds
from iii_state_file.writer import ExpiryRows, TickVersions, WriteBatch

_LARGE = 64 * 1024
"""Bytes of a value whose checksum is not for the event loop."""


class Raised:
    """What a change function raised, to be given to its caller when that shows nothing uncommitted."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class OpenBatch:
    """Who waits for one batch, in the order of the calls."""

    __slots__ = ("answers", "number", "scans")

    def __init__(self, number: int) -> None:
        self.number = number
        self.answers: list[tuple[Deferred[Any], Any]] = []
        self.scans: list[Scan] = []


class Batches:
    """All batches of a store that are not committed, and the numbers that its writes take."""

    __slots__ = (
        "_loop",
        "_sent",
        "_store",
        "committed",
        "current",
        "dirty",
        "ending",
        "noted_ms",
        "revision",
        "trim",
        "versions",
    )

    def __init__(self, store: FileStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._sent: deque[OpenBatch] = deque()
        self.current = OpenBatch(1)
        self.dirty: list[CachedKey] = []
        self.ending: dict[CachedKey, None] = {}
        """Those in `dirty` whose end was changed."""
        self.versions: list[int | bytes | None] | None = None
        """Those that were replaced in the tick that made them, as `packs` says; None: none are kept."""
        self.noted_ms = 0
        """When the first version of this tick was made."""
        self.trim: Bounds | None = None
        self.committed = 0
        self.revision = store.revision
        """The last one that was used."""

    @property
    def all_committed(self) -> bool:
        """True when no write is left."""
        return not (self.dirty or self._sent)

    def wait(self, number: int, outcome: Any, answer: Deferred[Any] | None) -> Deferred[Any]:
        """Answer when that batch, which is not committed, is; behind the answers that wait for it already."""
        if answer is None:
            answer = Deferred()
        current = self.current
        # Written in this tick: the batch that takes writes. Else it was handed over, and those are numbered
        # without a gap from the first one on.
        batch = current if number == current.number else self._sent[number - self._sent[0].number]
        batch.answers.append((answer, outcome))
        return answer

    def change_end(self, cached: CachedKey) -> None:
        """The key got another end: its row is written with that."""
        current = self.current
        if cached.batch != current.number:
            cached.batch = current.number
            if not self.dirty:
                self._loop.call_soon(self.hand_over)
            self.dirty.append(cached)
        self.ending[cached] = None

    def follow(self, scan: Scan) -> None:
        """Hand the scan over as soon as every write that was accepted before it is committed."""
        if self.dirty:
            # Writes of this tick come before it.
            self.current.scans.append(scan)
        elif self._sent:
            # None in this tick, but the writer has not committed all of the earlier ones.
            self._sent[-1].scans.append(scan)
        else:
            self._store.scan(scan)

    def hand_over(self) -> None:
        """Give the writes of this tick to the writer, each key once with its last value."""
        if not self.dirty and self.trim is None:
            return
        deletes: list[int] = []
        rows: list[int | str | bytes | None] = []
        large: list[int] = []
        versions = self.versions
        gone: list[tuple[int, str, str, int]] = []
        for cached in self.dirty:
            position, stored = cached.position, cached.stored
            if position != stored:
                # Deleted, or deleted and made again: the old row goes. `stored` is 0 for a key that is new;
                # one that came and went within this tick has neither row.
                if stored:
                    deletes.append(stored)
                cached.stored = position
            if position:
                revision, value = cached.revision, cached.value
                assert value is not None
                if len(value) > _LARGE:
                    # The loop is for quick things: the writer puts the checksum where it starts from.
                    large.append(len(rows))
                    checksum = cached.start
                else:
                    checksum = row_checksum(cached.start, position, revision, value)
                rows += (position, cached.scope, cached.key, revision, checksum, value)
            if versions is not None and (pending := cached.pending):
                previous, start, before = cached.version, cached.start, cached.before
                cached.version, cached.pending, cached.before = pending, 0, None
                if position:
                    # The checksum of the row is that of the version; the writer makes those of large values.
                    whole = None if large and large[-1] == len(rows) - 6 else checksum
                    versions += (previous, position, pending, start, whole, value, before)
                else:
                    checksum = row_checksum(start, 0, pending, b"")
                    gone.append((pending, cached.scope, cached.key, checksum))
                    versions += (previous, 0, pending, start, checksum, None, before)
        self.dirty.clear()
        expiries = self._expiries() if self.ending else None
        made = None
        if versions:
            made = TickVersions(self.noted_ms, versions, gone)
            self.versions, self.noted_ms = [], 0
        trim, self.trim = self.trim, None
        batch = self.current
        self._sent.append(batch)
        self.current = OpenBatch(batch.number + 1)
        # A batch without rows goes too: a delete that found nothing still takes a revision.
        self._store.write(WriteBatch(batch.number, deletes, rows, large, self.revision, expiries, made, trim))

    def _expiries(self) -> ExpiryRows:
        """The ends that were changed in this tick, as the database is to hold them."""
        changed = ExpiryRows([], [])
        for cached in self.ending:
            position = cached.position if cached.ends else 0
            if cached.stored_end and cached.stored_end != position:
                changed.deletes.append((cached.stored_end,))
            if position:
                checksum = expiry_checksum(position, cached.ends)
                changed.rows.append((position, cached.ends, checksum))
            cached.stored_end = position
        self.ending.clear()
        return changed

    def commit_done(self, number: int) -> None:
        """The batches up to `number` are committed: answer everyone who waited for them."""
        self.committed = number
        sent = self._sent
        while sent and sent[0].number <= number:
            batch = sent.popleft()
            for answer, outcome in batch.answers:
                if outcome.__class__ is Raised:
                    answer.set_exception(outcome.error)
                else:
                    answer.set_result(outcome)
            # What these scans have to show is committed; later writes may show too.
            for scan in batch.scans:
                self._store.scan(scan)

    def abandon(self) -> list[Deferred[Any]]:
        """Forget all that is not committed; gives those who waited for it."""
        answers = [answer for batch in (*self._sent, self.current) for answer, _ in batch.answers]
        self._sent.clear()
        self.current = OpenBatch(self.current.number + 1)
        self.dirty.clear()
        self.ending.clear()
        return answers
