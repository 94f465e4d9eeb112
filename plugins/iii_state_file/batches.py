"""Batches: the writes of each tick of the event loop, from the first one until they are committed.

Numbers rise by one, so a batch is found by its number: first those that were handed to the writer, in order,
then `current`, which takes writes. A key is in `dirty` exactly while its last write is in `current`, and
`hand_over` is due exactly while something is. A value is durable when the batch of its key is not above
`committed`; whatever would show one that is not waits in that batch. Batches are answered in order, and
within one batch those who wait in the order of their calls.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from iii_skill.adapter import Deferred
from iii_state_file.checksums import row_checksum
from iii_state_file.key_cache import CachedKey
from iii_state_file.reader import Scan
from iii_state_file.store import FileStore
from iii_state_file.writer import WriteBatch

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

    __slots__ = ("_sent", "_store", "committed", "current", "dirty", "revision")

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._sent: deque[OpenBatch] = deque()
        self.current = OpenBatch(1)
        self.dirty: list[CachedKey] = []
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
        if not self.dirty:
            return
        deletes: list[tuple[int]] = []
        rows: list[int | str | bytes | None] = []
        large: list[int] = []
        for cached in self.dirty:
            position, stored = cached.position, cached.stored
            if position != stored:
                # Deleted, or deleted and made again: the old row goes. `stored` is 0 for a key that is new;
                # one that came and went within this tick has neither row.
                if stored:
                    deletes.append((stored,))
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
        self.dirty.clear()
        batch = self.current
        self._sent.append(batch)
        self.current = OpenBatch(batch.number + 1)
        # A batch without rows goes too: a delete that found nothing still takes a revision.
        self._store.write(WriteBatch(batch.number, deletes, rows, large, self.revision))

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
        return answers
