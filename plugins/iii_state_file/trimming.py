"""Trimming: drops versions of keys that are not shown any more, some of them at a time.

It goes through the packs from the newest to the oldest and follows all chains at once: it is known of each
version how many newer ones its key has and when it was replaced. A version without a newer one is the last of
its key, or else whatever replaced it was dropped before, and nothing leads to it. A pack of whose versions
half is to be dropped is written anew; one that is dropped whole leaves its revisions to the next newer pack.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

import msgspec

from iii_state_file.failures import DamagedVersions
from iii_state_file.floor import raise_floor
from iii_state_file.packs import HEADS, INSERT, NEWEST, NO_VALUE, Pack, read_pack

_BEFORE = """SELECT last, at_ms, checksum, heads FROM packs
WHERE last <= ? AND last > 0 ORDER BY last DESC LIMIT 1"""
_BODY = "SELECT body FROM packs WHERE last = ?"
_DROP = "DELETE FROM packs WHERE last = ?"
_NEW_HEADS = "UPDATE packs SET checksum = ?, heads = ? WHERE last = ?"
_ALIVE = "SELECT 1 FROM entries WHERE position = ? AND revision = ?"
_GONE = """SELECT 1 FROM gone WHERE revision = ? AND NOT EXISTS
(SELECT 1 FROM entries WHERE entries.scope = gone.scope AND entries.key = gone.key)"""
_FORGET = "DELETE FROM gone WHERE revision = ?"

_STEP = 50_000
"""Versions that are looked at in one step."""
_STEP_BYTES = 4 * 1024 * 1024
"""Bytes that are written anew in one step, and the pack that goes beyond it."""
_LOOK_UP = 10
"""As many versions are passed while one row is looked up."""
_CHAINS = 300_000
"""Chains that are followed at once; where there are more, only those of some names are."""
_NAMES: Final = 1 << 32
_AGAIN_MS = 3_600_000
"""After so long a store is looked through even if little was written."""
_ALL: Final = 1 << 30
"""More newer versions than are ever kept."""


class Bounds(msgspec.Struct, frozen=True):
    """What of a key's versions is shown: so many, and what was not replaced before that moment."""

    keep: int
    since_ms: int


class Trimming:
    """One pass after another, each in steps, on the connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._upto = 0
        """Packs up to this revision are still to be looked at; 0: no pass is under way."""
        self._newer = 0
        """The pack that was looked at last and is there still."""
        self._after: int | None = None
        """Behind this revision that one is to begin, since those before it were dropped."""
        self._chains: dict[int, tuple[int, int, int]] = {}
        """Of versions further down: how many newer ones there are, when it was replaced, whose it is."""
        self._first, self._width = 0, _NAMES
        """The checksums of names whose chains are followed in this pass."""
        self._left = 0
        """Of how many checksums of names the chains were not followed yet."""
        self._damaged = False
        """A pack could not be read: it is not known which versions it replaced."""
        self._looked = self._seen = self._written = 0
        self._since_ms: int | None = None

    def follow(self, previous: Iterable[int], starts: Iterable[int], at_ms: int) -> None:
        """Versions were written that replace these."""
        upto = self._upto
        for revision, start in zip(previous, starts, strict=True):
            self._written += 1
            if 0 < revision <= upto:
                self._chains[revision] = (1, at_ms, start)

    def step(self, bounds: Bounds) -> int:
        """Go on within the transaction that there is; about how many bytes were written."""
        run = self._connection.execute
        if not self._upto and not self._begin(bounds):
            return 0
        written = looked = 0
        while looked < _STEP and written < _STEP_BYTES:
            row = run(_BEFORE, (self._upto,)).fetchone()
            if row is None:
                written += self._extend()
                self._end()
                return written
            try:
                pack = read_pack(row)
            except DamagedVersions:
                # It stays as it is, for whoever asks for what it held.
                written += self._extend()
                self._damaged = True
                self._newer, self._upto = row[0], row[0] - 1
                continue
            # A pack that is damaged in such a way that it never ends is none.
            self._upto = min(pack.after, pack.last - 1)
            steps, more = self._look(pack, bounds)
            looked += steps
            written += more
            if len(self._chains) > _CHAINS:
                self._width //= 2
                self._chains = {at: one for at, one in self._chains.items() if self._follows(one[2])}
        return written + self._extend()

    def _begin(self, bounds: Bounds) -> bool:
        since = self._since_ms
        if (
            self._left <= 0
            and since is not None
            and 4 * self._written < self._seen
            and bounds.since_ms - since < _AGAIN_MS
        ):
            return False
        if self._left <= 0:
            self._left = _NAMES
        self._upto = max(0, self._connection.execute(NEWEST).fetchone()[0] or 0)
        self._newer, self._after = 0, None
        self._damaged = False
        self._looked = self._written = 0
        self._since_ms = bounds.since_ms
        return self._upto > 0

    def _end(self) -> None:
        self._upto = 0
        self._chains.clear()
        self._seen = self._looked
        self._left -= self._width
        self._first = (self._first + self._width) % _NAMES
        self._width = _NAMES

    def _follows(self, start: int) -> bool:
        return (start - self._first) % _NAMES < self._width

    def _look(self, pack: Pack, bounds: Bounds) -> tuple[int, int]:
        """Drop what there is to drop in a pack; how long that took, and how many bytes were written."""
        count = steps = len(pack.deltas)
        self._looked += count
        dead: set[int] = set()
        followed: list[int] = []
        forgotten = 0
        # The newest first: a tick may have made several versions of one key.
        for index in sorted(range(count), key=pack.deltas.__getitem__):
            start = pack.starts[index]
            if self._width < _NAMES and not self._follows(start):
                continue
            followed.append(index)
            revision = pack.last - pack.deltas[index]
            chain = self._chains.pop(revision, None)
            if chain is not None:
                newer, replaced_ms, _ = chain
                drop = newer >= bounds.keep or replaced_ms < bounds.since_ms
            else:
                steps += _LOOK_UP
                newer, replaced_ms = 0, pack.at_ms
                last = self._is_last(pack, index, revision)
                drop = last and pack.lengths[index] == NO_VALUE and pack.at_ms < bounds.since_ms
                if drop:
                    forgotten = max(forgotten, revision)
                elif not last and not self._damaged:
                    newer, drop = _ALL, True
            if drop:
                dead.add(index)
            previous = pack.previous[index]
            if 0 < previous < revision:
                self._chains[previous] = (newer + 1, min(replaced_ms, pack.at_ms), start)
        if forgotten:
            raise_floor(self._connection, forgotten, pack.at_ms)
        for index in dead:
            if pack.lengths[index] == NO_VALUE:
                self._connection.execute(_FORGET, (pack.last - pack.deltas[index],))
        return steps, self._drop(pack, dead, followed)

    def _is_last(self, pack: Pack, index: int, revision: int) -> bool:
        """Whether the key holds this version now."""
        run = self._connection.execute
        if pack.lengths[index] == NO_VALUE:
            return run(_GONE, (revision,)).fetchone() is not None
        return run(_ALIVE, (pack.positions[index], revision)).fetchone() is not None

    def _drop(self, pack: Pack, dead: set[int], followed: Sequence[int]) -> int:
        count = len(pack.deltas)
        if len(dead) == count and self._newer:
            self._connection.execute(_DROP, (pack.last,))
            self._after = pack.after
            return 0
        written = self._extend()
        if dead and (2 * len(dead) >= len(followed) or 2 * _size(pack, dead) >= _size(pack, followed)):
            written += self._rewrite(pack, [index for index in range(count) if index not in dead])
        self._newer = pack.last
        return written

    def _rewrite(self, pack: Pack, left: list[int]) -> int:
        body = self._connection.execute(_BODY, (pack.last,)).fetchone()[0]
        if crc32(body) != pack.body_checksum:
            # Damaged: whoever asks for one of them is to be told.
            return 0
        parts = []
        at = 0
        kept = set(left)
        for index in range(len(pack.lengths)):
            size = pack.size(index)
            if index in kept:
                parts.append(body[at : at + size])
            at += size
        row = pack.of(left).row(b"".join(parts))
        self._connection.execute(INSERT, row)
        return len(row[3]) + len(row[4])

    def _extend(self) -> int:
        """Have the last pack begin where those began that were dropped before it."""
        if self._after is None:
            return 0
        after, self._after = self._after, None
        row = self._connection.execute(HEADS, (self._newer,)).fetchone()
        pack = read_pack(row)._replace(after=after)
        checksum, heads = pack.heads()
        self._connection.execute(_NEW_HEADS, (checksum, heads, pack.last))
        return len(heads)


def _size(pack: Pack, some: Iterable[int]) -> int:
    """The bytes of their values."""
    return sum(map(pack.size, some))
