"""CurrentValues: what keys hold, as long as the database says that nobody else has written.

The head of a bucket tells its newest revision, and since which one all changes are of one writer. Where those
are of this host, or there are none since it looked, what it wrote and read is what the tables hold, and a
small question about the head takes the place of reading the values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from iii_skill.adapters.shared import Key

MAX_BYTES = 32 * 1024 * 1024
MAX_VALUE = 256 * 1024
MAX_NAMES = 1_000
"""Characters of scope and key together; what has longer ones is not remembered."""
OVERHEAD = 300

UNKNOWN: Final = False
"""In the place of a value: it has to be read."""


class Head(NamedTuple):
    """The row of a bucket: all changes after `since` are of the writer `owner`; `edits` counts what was
    changed without a writer."""

    bucket: int
    revision: int
    owner: int | None
    since: int
    edits: int
    ends: int | None = None
    """A moment before which no key ends; None when none has an end."""


class KnownBucket(msgspec.Struct, gc=False):
    """Values of this generation are those of the tables at `revision`."""

    generation: int
    revision: int
    edits: int | None


class CurrentValues:
    """The values that this host wrote and read, bounded by bytes; the one stored longest ago leaves first."""

    def __init__(self) -> None:
        self.writer: int | None = None
        """This host, while it knows what became of all its batches."""
        self.epoch = 0
        """What was asked in an earlier one is not to be remembered."""
        self._values: dict[Key, tuple[int, bytes | None]] = {}
        self._bytes = 0
        self._buckets: dict[int, KnownBucket] = {}
        self._generations = 0

    def forget(self) -> None:
        """Nothing is known any more, nor from what is on its way."""
        self.epoch += 1
        self._values.clear()
        self._bytes = 0
        self._buckets.clear()

    def worth_asking(self, bucket: int) -> bool:
        """True when the head of the bucket may spare reading values."""
        known = self._buckets.get(bucket)
        return known is not None and known.edits is not None

    def holds(self, head: Head) -> bool:
        """True when what is known of its bucket is what the tables hold."""
        known = self._buckets.get(head.bucket)
        # Values that end are not remembered, so nothing is while there may be some.
        if known is None or head.edits != known.edits or head.ends is not None:
            return False
        # Later changes that are all of this host: their keys are asked for only once they are answered.
        return head.revision <= known.revision or (
            self.writer is not None and head.owner == self.writer and head.since <= known.revision
        )

    def get(self, bucket: int, key: Key) -> bytes | Literal[False] | None:
        """The value, None where there is no such key, UNKNOWN where it has to be read."""
        found = self._values.get(key)
        known = self._buckets.get(bucket)
        return UNKNOWN if found is None or known is None or found[0] != known.generation else found[1]

    def was_read(self, head: Head, pairs: Iterable[tuple[Key, bytes | None]]) -> None:
        """The tables held these values together with this head."""
        known = self._buckets.get(head.bucket)
        if head.ends is not None:
            self._buckets.pop(head.bucket, None)
            return
        if known is None or not self.holds(head):
            if known is not None and head.revision < known.revision:
                # Read before what is known by now.
                return
            known = self._begin(head.bucket, head.revision, head.edits)
        elif head.revision < known.revision:
            return
        for key, value in pairs:
            self._put(known, key, value)

    def was_written(
        self, bucket: int, first: int, last: int, pairs: Iterable[tuple[Key, bytes | None]]
    ) -> None:
        """This host made the changes of these revisions."""
        known = self._buckets.get(bucket)
        if known is None or known.revision + 1 != first:
            if known is not None and last <= known.revision:
                return
            # Somebody else wrote in between; of edits nothing is known before the next reading.
            known = self._begin(bucket, last, None)
        known.revision = last
        for key, value in pairs:
            self._put(known, key, value)

    def _begin(self, bucket: int, revision: int, edits: int | None) -> KnownBucket:
        self._generations += 1
        known = self._buckets[bucket] = KnownBucket(self._generations, revision, edits)
        return known

    def _put(self, known: KnownBucket, key: Key, value: bytes | None) -> None:
        values = self._values
        old = values.get(key)
        if old is not None:
            self._bytes -= _size(key, old[1])
        size = _size(key, value)
        if size > MAX_VALUE or len(key[0]) + len(key[1]) > MAX_NAMES:
            values.pop(key, None)
            return
        values[key] = (known.generation, value)
        self._bytes += size
        while self._bytes > MAX_BYTES:
            oldest = next(iter(values))
            self._bytes -= _size(oldest, values.pop(oldest)[1])


def _size(key: Key, value: bytes | None) -> int:
    return OVERHEAD + len(key[0]) + len(key[1]) + len(value or b"")
