"""Layout 3 kept each version of a key in a row of its own: the way from there to packs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from iii_state_file.checksums import name_checksum, row_checksum
from iii_state_file.floor import Floor, write_floor
from iii_state_file.packs import INSERT, INSERT_GONE, NO_VALUE, Pack, Row

_FLOOR = "SELECT previous, scope, key, checksum, value FROM history WHERE revision = -1"
_VERSIONS = """SELECT history.revision, previous, number, at_ms, history.scope, history.key, history.checksum,
history.value, position
FROM history LEFT JOIN entries ON entries.scope = history.scope AND entries.key = history.key
AND entries.revision = history.revision
WHERE history.revision > 0 ORDER BY history.revision"""

_PACKED = 128


class _More(msgspec.Struct, frozen=True):
    at_ms: int
    left_at: int | None


def upgrade_3(connection: sqlite3.Connection, added: Iterable[str]) -> None:
    """Write the versions anew, all or nothing; `added` makes the tables that take them."""
    run = connection.execute
    run("BEGIN IMMEDIATE")
    try:
        for statement in added:
            run(statement)
        _take_floor(connection)
        _take_versions(connection)
        run("DROP TABLE history")
        run("PRAGMA user_version = 5")
        run("COMMIT")
    except BaseException:
        if connection.in_transaction:
            run("ROLLBACK")
        raise


def _take_floor(connection: sqlite3.Connection) -> None:
    row = connection.execute(_FLOOR).fetchone()
    if row is None:
        return
    revision, scope, key, checksum, value = row
    if row_checksum(name_checksum(scope, key), revision, -1, value) != checksum:
        raise sqlite3.DatabaseError("what it says of the versions of keys cannot be read")
    more = msgspec.json.decode(value, type=_More)
    write_floor(connection, Floor(revision, more.at_ms, more.left_at))


def _take_versions(connection: sqlite3.Connection) -> None:
    """Versions of one moment come together; what was damaged stays so."""
    upto = 0
    part: list[Any] = []
    noted_ms = last = 0
    for revision, previous, number, at_ms, scope, key, checksum, value, position in connection.execute(
        _VERSIONS
    ):
        if part and (at_ms != noted_ms or len(part) >= 6 * _PACKED or revision - upto > 1 << 31):
            connection.executemany(INSERT, [_row(upto, last, noted_ms, part)])
            upto, part = last, []
        start = name_checksum(scope, key)
        place = 0 if value is None else revision if number < 0 else position or 0
        sound = checksum == row_checksum(start, previous if number > 0 else ~previous, revision, value or b"")
        new = row_checksum(start, place, revision, value or b"")
        part += (previous, place, revision, start, new if sound else new ^ 1, value)
        if value is None:
            connection.execute(INSERT_GONE, (revision, scope, key, new))
        noted_ms, last = at_ms, revision
    if part:
        connection.executemany(INSERT, [_row(upto, last, noted_ms, part)])


def _row(after: int, last: int, at_ms: int, versions: list[Any]) -> Row:
    previous, positions, revisions, starts, checksums, values = (versions[field::6] for field in range(6))
    deltas = [last - revision for revision in revisions]
    lengths = [NO_VALUE if value is None else len(value) for value in values]
    changed = [0] * len(values)
    pack = Pack(last, at_ms, after, 0, previous, positions, deltas, starts, checksums, lengths, changed)
    return pack.row(b"".join(value for value in values if value is not None))
