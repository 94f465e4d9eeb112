"""Walks: the way from the last version of a key back, through the packs that hold its versions.

Every version is checked against its checksum where its value is read, and every way against the floor: above
that no pack may be missing.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict

from iii_state_file.checksums import name_checksum, row_checksum
from iii_state_file.failures import DamagedRow, DamagedVersions, damaged
from iii_state_file.floor import read_floor
from iii_state_file.packs import ELSEWHERE, HEADS, NO_VALUE, Pack, VersionPlace, before_of, read_pack

_COVERING = "SELECT last FROM packs WHERE last >= ? ORDER BY last LIMIT 1"
_BODY = "SELECT substr(body, ?, ?) FROM packs WHERE last = ?"
_ALIVE = """SELECT position, revision, checksum, value FROM entries INDEXED BY entries_by_key
WHERE scope = ? AND key = ?"""
_GONE = "SELECT revision, checksum FROM gone INDEXED BY gone_by_key WHERE scope = ? AND key = ?"
_GONE_AGAIN = "SELECT 1 FROM gone INDEXED BY gone_again WHERE key = ? AND scope = ?"

_REMEMBERED = 64
"""Packs that are kept in memory while some walks are made."""


class Packs:
    """The packs as they are in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        floor = read_floor(connection)
        if floor is None:
            raise damaged("what it says of the versions of keys is missing")
        self.floor = floor
        self._read: OrderedDict[int, Pack] = OrderedDict()

    def walk(self, scope: str, key: str) -> Walk:
        """The way from the last version of a key back."""
        row = self._run(_ALIVE, (scope, key)).fetchone()
        if row is not None:
            position, revision, checksum, value = row
            try:
                whole = row_checksum(name_checksum(scope, key), position, revision, value) == checksum
            except TypeError:
                whole = False
            if not whole:
                raise DamagedRow(scope, key)
            return Walk(self, scope, key, revision, value)
        row = self._run(_GONE, (scope, key)).fetchone()
        if row is None:
            if self._run(_GONE_AGAIN, (key, scope)).fetchone() is not None:
                raise damaged(f"an index lost the versions of key {key!r} in scope {scope!r}")
            return Walk(self, scope, key, 0, None)
        revision, checksum = row
        if row_checksum(name_checksum(scope, key), 0, revision, b"") != checksum:
            raise DamagedRow(scope, key)
        return Walk(self, scope, key, revision, None)

    def find(self, revision: int) -> VersionPlace | None:
        """The version of that revision; None: it was dropped, or never kept."""
        if revision <= 0:
            return None
        row = self._run(_COVERING, (revision,)).fetchone()
        pack = None if row is None else self._pack(row[0])
        if pack is None or revision <= pack.after:
            if revision > self.floor.revision:
                raise damaged("versions of keys are missing")
            return None
        try:
            return VersionPlace(pack, pack.deltas.index(pack.last - revision))
        except ValueError:
            return None

    def read(self, place: VersionPlace, start: int, size: int) -> bytes:
        """Bytes of a version, from `start` of it on."""
        asked = (place.pack.offset(place.number) + start + 1, size, place.pack.last)
        found = self._run(_BODY, asked).fetchone()[0]
        if not isinstance(found, bytes) or len(found) != size:
            raise DamagedVersions
        return found

    def _pack(self, last: int) -> Pack:
        pack = self._read.get(last)
        if pack is None:
            pack = read_pack(self._run(HEADS, (last,)).fetchone())
            if len(self._read) >= _REMEMBERED:
                self._read.popitem(last=False)
            self._read[last] = pack
        return pack


class Walk:
    """One version of a key after the other, the newest first."""

    def __init__(self, packs: Packs, scope: str, key: str, head: int, value: bytes | None) -> None:
        self._packs = packs
        self._name = (scope, key)
        self._start = name_checksum(scope, key)
        self.head = head
        """The revision of the last version; 0: there is none."""
        self.current = value
        """What the key holds now."""
        self.place = packs.find(head)
        """Where it is; None: there are no more."""
        self._value: bytes | None = value
        self._known = True
        """False: the value is still to be read out of the pack of its version."""

    def value(self) -> bytes | None:
        """What the version is; DamagedRow when that cannot be told."""
        place = self.place
        assert place is not None
        pack, number = place
        if not self._known:
            length = pack.lengths[number]
            self._value = None if length == NO_VALUE else self._packs.read(place, 0, length)
            self._known = True
        checksum = row_checksum(self._start, pack.positions[number], place.revision, self._value or b"")
        if (
            self._start != pack.starts[number]
            or checksum != pack.checksums[number]
            or (self._value is None) is not place.is_gone
        ):
            raise DamagedRow(*self._name)
        return self._value

    def back(self) -> VersionPlace | None:
        """Go on to the version before."""
        place = self.place
        assert place is not None
        before = self._packs.find(place.previous)
        if before is not None and before.pack.lengths[before.number] == ELSEWHERE:
            # No pack holds a large value: the version that replaced it says what of it was another.
            self._value = self._before(place)
        else:
            self._known = False
        self.place = before
        return before

    def _before(self, place: VersionPlace) -> bytes:
        """The value that a version replaced, out of what it says of that."""
        size = place.pack.changed[place.number]
        newer = self.value() or b""
        own = place.pack.size(place.number) - size
        former = before_of(newer, self._packs.read(place, own, size))
        if former is None:
            raise DamagedRow(*self._name)
        return former
