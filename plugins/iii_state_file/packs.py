"""Packs: the versions that one tick made, in one row of the database.

Each version names the one of its key before it, so those of a key are found without an index that every write
would have to keep. A pack stands for all revisions behind `after` up to `last`: what is not in it was dropped
or never kept, and a revision above the floor for which no pack stands is damage.

A large value is not written twice: while it is the current one it lies in the row of its key alone, and the
version that replaces it says what of it was another (`changed`). So it is found from the newest version on.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast
from zlib import crc32

from iii_state_file.checksums import name_checksum, row_checksum
from iii_state_file.failures import DamagedVersions
from iii_state_file.floor import read_floor

FIELDS: Final = 7
"""Of a version that is to be packed: previous, position, revision, start, checksum, value, and what the key
held before if that is large. A checksum of None is still to be made."""
NO_VALUE: Final = (1 << 32) - 1
"""The length of a version without a value: its key was gone."""
ELSEWHERE: Final = NO_VALUE - 1
"""The length of a version whose value is not in its pack."""
LARGE: Final = 256
"""So many bytes make a large value."""

INSERT: Final = "INSERT OR REPLACE INTO packs (last, at_ms, checksum, heads, body) VALUES (?, ?, ?, ?, ?)"
INSERT_GONE: Final = "INSERT OR REPLACE INTO gone (revision, scope, key, checksum) VALUES (?, ?, ?, ?)"

HEADS = "SELECT last, at_ms, checksum, heads FROM packs WHERE last = ?"
NEWEST = "SELECT max(last) FROM packs"

_ALL = "SELECT last, at_ms, checksum, heads, body FROM packs WHERE last > 0 ORDER BY last"
_ALL_GONE = "SELECT revision, scope, key, checksum FROM gone"

_PACK_BYTES = 256 * 1024
"""Values in one pack, and the one that goes beyond it."""
_HEAD_BYTES = 36
_SHARED = struct.Struct("<II")
_STEP = 32
"""So many bytes have to be the same before it is asked how many are."""

Row = tuple[int, int, int, bytes, bytes]


class Pack(NamedTuple):
    """What a row of `packs` says of its versions; those of one key need not be in order."""

    last: int
    at_ms: int
    after: int
    body_checksum: int
    previous: Sequence[int]
    positions: Sequence[int]
    """0 for a version without a value; its own revision where it made the key."""
    deltas: Sequence[int]
    """How far below `last` its revision is."""
    starts: Sequence[int]
    """The checksums of names."""
    checksums: Sequence[int]
    lengths: Sequence[int]
    changed: Sequence[int]
    """How many bytes say what the version before was; 0: that has its value itself."""

    def heads(self) -> tuple[int, bytes]:
        """All of it but the first two, and the checksum over it."""
        count = len(self.previous)
        heads = struct.pack(
            f"<{2 + 2 * count}q{5 * count}I",
            self.after,
            self.body_checksum,
            *self.previous,
            *self.positions,
            *self.deltas,
            *self.starts,
            *self.checksums,
            *self.lengths,
            *self.changed,
        )
        return row_checksum(0, self.last, self.at_ms, heads), heads

    def row(self, body: bytes) -> Row:
        """The row that stands for it."""
        checksum, heads = self._replace(body_checksum=crc32(body)).heads()
        return self.last, self.at_ms, checksum, heads, body

    def of(self, numbers: Sequence[int]) -> Pack:
        """The same with these versions only."""
        return self._replace(
            previous=[self.previous[number] for number in numbers],
            positions=[self.positions[number] for number in numbers],
            deltas=[self.deltas[number] for number in numbers],
            starts=[self.starts[number] for number in numbers],
            checksums=[self.checksums[number] for number in numbers],
            lengths=[self.lengths[number] for number in numbers],
            changed=[self.changed[number] for number in numbers],
        )

    def size(self, number: int) -> int:
        """The bytes of a version in the body: its value, then what the one before it was."""
        length = self.lengths[number]
        return self.changed[number] + (length if length < ELSEWHERE else 0)

    def offset(self, number: int) -> int:
        """Where a version begins."""
        return sum(map(self.size, range(number)))


class VersionPlace(NamedTuple):
    """One version, its value unread."""

    pack: Pack
    number: int

    @property
    def revision(self) -> int:
        return self.pack.last - self.pack.deltas[self.number]

    @property
    def previous(self) -> int:
        """The revision of the version before it; 0: there was none."""
        return self.pack.previous[self.number]

    @property
    def is_gone(self) -> bool:
        """The key was deleted, or its end came."""
        return self.pack.lengths[self.number] == NO_VALUE

    @property
    def made(self) -> bool:
        """The version made the key."""
        return self.pack.positions[self.number] == self.revision


def read_pack(row: tuple[Any, ...]) -> Pack:
    """The row (last, at_ms, checksum, heads); DamagedVersions when it is not what was written."""
    try:
        last, at_ms, checksum, heads = row
        if row_checksum(0, last, at_ms, heads) == checksum:
            count = len(heads) // _HEAD_BYTES
            (after, body, *numbers) = struct.unpack(f"<{2 + 2 * count}q{5 * count}I", heads)
            parts = [numbers[at : at + count] for at in range(0, 7 * count, count)] if count else [[]] * 7
            return Pack(last, at_ms, after, body, *parts)
    except (TypeError, struct.error):
        pass  # A damaged header changes types, too.
    raise DamagedVersions


def make_rows(after: int, last: int, at_ms: int, versions: list[Any]) -> list[Row]:
    """The rows of the versions of one tick, `FIELDS` for each, which stand for the revisions up to `last`."""
    rows: list[Row] = []
    if len(versions) > FIELDS and sum(map(_most, versions[5::FIELDS], versions[6::FIELDS])) > _PACK_BYTES:
        starts = sorted(range(0, len(versions), FIELDS), key=lambda at: cast(int, versions[at + 2]))
        part: list[Any] = []
        size = 0
        for start in starts:
            if size > _PACK_BYTES:
                upto = part[2 - FIELDS]
                rows.append(_row(after, upto, at_ms, part))
                after, part, size = upto, [], 0
            part += versions[start : start + FIELDS]
            size += _most(part[-2], part[-1])
        versions = part
    rows.append(_row(after, last, at_ms, versions))
    return rows


def _most(value: bytes | None, before: bytes | None) -> int:
    return len(value or b"") + len(before or b"")


def _row(after: int, last: int, at_ms: int, versions: list[Any]) -> Row:
    previous, positions, revisions, starts, checksums, values, before = (
        versions[field::FIELDS] for field in range(FIELDS)
    )
    if None in checksums:
        for number, checksum in enumerate(checksums):
            if checksum is None:
                checksums[number] = row_checksum(
                    starts[number], positions[number], revisions[number], values[number] or b""
                )
    lengths = [NO_VALUE if value is None else len(value) for value in values]
    changed = [0] * len(values)
    parts = [value for value in values if value is not None]
    if any(before) or any(length >= LARGE and length != NO_VALUE for length in lengths):
        parts = []
        for number, (value, old) in enumerate(zip(values, before, strict=True)):
            if value is not None and len(value) >= LARGE:
                lengths[number] = ELSEWHERE
            elif value:
                parts.append(value)
            if old is not None:
                parts.append(_changed(old, value or b""))
                changed[number] = len(parts[-1])
    deltas = [last - revision for revision in revisions]
    pack = Pack(last, at_ms, after, 0, previous, positions, deltas, starts, checksums, lengths, changed)
    return pack.row(b"".join(parts))


def _changed(old: bytes, new: bytes) -> bytes:
    """What makes the old value of the new one: how many bytes both begin and end with, and those between."""
    size = min(len(old), len(new))
    first = last = 0
    # Most changes are small and in one place: what is tried first is that almost all is the same.
    if new.endswith(old[-_STEP:]):
        unlike = _STEP
        while unlike < size:
            if new.endswith(old[unlike - size :]):
                last = size - unlike
                break
            unlike *= 4
    if new.startswith(old[:_STEP]):
        most, unlike = size - last, 0
        while unlike < most:
            if new.startswith(old[: most - unlike]):
                first = most - unlike
                break
            unlike = unlike * 4 or _STEP
    return _SHARED.pack(first, last) + old[first : len(old) - last]


def before_of(new: bytes, changed: bytes) -> bytes | None:
    """The old value, out of the new one and what `_changed` gave; None when they do not fit."""
    if len(changed) < _SHARED.size:
        return None
    first, last = _SHARED.unpack_from(changed)
    if first + last > len(new):
        return None
    return new[:first] + changed[_SHARED.size :] + new[len(new) - last :]


def covered(connection: sqlite3.Connection) -> int:
    """The revision up to which packs stand, or behind which they begin."""
    floor = read_floor(connection)
    newest: int = connection.execute(NEWEST).fetchone()[0] or 0
    return max(newest, 0 if floor is None else floor.revision)


def check_packs(connection: sqlite3.Connection) -> None:
    """DamagedVersions, or StoreBroken of the floor, unless every version is whole and no pack is missing."""
    floor = read_floor(connection)
    upto = 0
    for *heads, body in connection.execute(_ALL):
        pack = read_pack(tuple(heads))
        if pack.after != upto and (floor is None or pack.after > floor.revision):
            raise DamagedVersions
        upto = pack.last
        if crc32(body) != pack.body_checksum:
            raise DamagedVersions
    for revision, scope, key, checksum in connection.execute(_ALL_GONE):
        if row_checksum(name_checksum(scope, key), 0, revision, b"") != checksum:
            raise DamagedVersions
