"""Floor: from which revision on every change of a key was noted, so that a missing version means something.

It is a row of `packs` that holds no version. While versions are kept it says so; whoever closes the
store, or opens it without the setting, puts down the revision it found. Where the next one that keeps
versions finds another revision, changes were made that nobody noted, and the floor rises to it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from iii_skill.values import PRIVATE_SCOPES
from iii_state_file.checksums import name_checksum, row_checksum
from iii_state_file.failures import damaged

_ROW: Final = -1
"""Below every revision."""
_SCOPE: Final = f"{PRIVATE_SCOPES}history"
_START: Final = name_checksum(_SCOPE, "")
_READ = "SELECT at_ms, checksum, heads FROM packs WHERE last = ?"
_WRITE = "INSERT OR REPLACE INTO packs (last, at_ms, checksum, heads, body) VALUES (?, ?, ?, ?, x'')"


class Floor(msgspec.Struct, frozen=True):
    """From this revision on all is noted, and nothing that is gone was forgotten."""

    revision: int
    at_ms: int
    """When that was, in ms since 1970."""
    left_at: int | None
    """The revision at which versions were kept no more; None: they are."""


def read_floor(connection: sqlite3.Connection) -> Floor | None:
    """The floor that is stored; None: no versions were ever kept."""
    row = connection.execute(_READ, (_ROW,)).fetchone()
    if row is None:
        return None
    at_ms, checksum, value = row
    try:
        if row_checksum(_START, at_ms, _ROW, value) == checksum:
            return msgspec.json.decode(value, type=Floor)
    except (TypeError, msgspec.DecodeError):
        pass
    raise damaged("what it says of the versions of keys cannot be read")


def write_floor(connection: sqlite3.Connection, floor: Floor) -> None:
    """Store it, in the transaction that there is."""
    value = msgspec.json.encode(floor)
    checksum = row_checksum(_START, floor.at_ms, _ROW, value)
    connection.execute(_WRITE, (_ROW, floor.at_ms, checksum, value))


def begin(connection: sqlite3.Connection, revision: int, now_ms: int, *, keeps: bool) -> bool:
    """The store was opened at this revision; True while all that followed the floor is noted."""
    floor = read_floor(connection)
    whole = floor is not None and floor.left_at in (None, revision)
    if keeps:
        begun = msgspec.structs.replace(floor, left_at=None) if floor and whole else None
        write_floor(connection, begun or Floor(revision, now_ms, None))
        return True
    if floor is not None and floor.left_at is None:
        write_floor(connection, msgspec.structs.replace(floor, left_at=revision))
    return whole


def leave(connection: sqlite3.Connection, revision: int) -> None:
    """The store is closed at this revision."""
    floor = read_floor(connection)
    if floor is not None and floor.left_at is None:
        write_floor(connection, msgspec.structs.replace(floor, left_at=revision))


def raise_floor(connection: sqlite3.Connection, revision: int, at_ms: int) -> None:
    """Up to this revision deletes are forgotten."""
    floor = read_floor(connection)
    if floor is not None and floor.revision < revision:
        write_floor(connection, Floor(revision, at_ms, floor.left_at))
