"""The layouts of the database: what it holds in each version, and the way from one to the next."""

from __future__ import annotations

import logging
import sqlite3
from typing import Final

from iii_state_file.checksums import name_checksum, revision_checksum, row_checksum
from iii_state_file.layout_3 import upgrade_3
from iii_state_file.layout_4 import upgrade_4

log = logging.getLogger("iii_state_file")

APPLICATION_ID = 0x69696973
SCHEMA_VERSION = 5

# `position` is the place in `list`: the revision that made the key, so it rises with each first insertion and
# stays on overwrite. `value` comes last: what stands before it is read without the pages of a large value.
# There are two ways to a row, `entries_by_key` and `entries_again`: damage of one is not an absent key.
_OBJECTS_2: Final = {
    "entries": """CREATE TABLE entries (
  position INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  value BLOB NOT NULL
) STRICT""",
    "entries_by_key": "CREATE UNIQUE INDEX entries_by_key ON entries (scope, key)",
    "entries_by_scope": "CREATE INDEX entries_by_scope ON entries (scope)",
    "entries_again": "CREATE INDEX entries_again ON entries (key, scope)",
    "store": """CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT""",
}

# Layout 1: no checksums, no second way to a row; positions were counted.
_OBJECTS_1: Final = {
    "entries": """CREATE TABLE entries (
  position INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  revision INTEGER NOT NULL
) STRICT""",
    "entries_by_key": "CREATE UNIQUE INDEX entries_by_key ON entries (scope, key)",
    "entries_by_scope": "CREATE INDEX entries_by_scope ON entries (scope)",
    "store": """CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT""",
}
# Layout 3 adds what is empty until it is used, so that nobody else pays for it: when keys end, by the
# position of their rows, and the versions of keys.
_EXPIRIES: Final = {
    "expiries": """CREATE TABLE expiries (
  position INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT""",
    "expiries_by_moment": "CREATE INDEX expiries_by_moment ON expiries (at_ms)",
}
_HISTORY_3: Final = {
    "history": """CREATE TABLE history (
  revision INTEGER PRIMARY KEY,
  previous INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  value BLOB
) STRICT""",
    "history_gone": "CREATE INDEX history_gone ON history (scope, key) WHERE value IS NULL",
}
# Layout 4 has one row for all versions of a tick (`packs`, where `last` -1 is what `floor` says), and where
# the versions of keys begin that are gone. Layout 5 has the same tables; what is in a pack is another.
_HISTORY_4: Final = {
    "packs": """CREATE TABLE packs (
  last INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  heads BLOB NOT NULL,
  body BLOB NOT NULL
) STRICT""",
    "gone": """CREATE TABLE gone (
  revision INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  checksum INTEGER NOT NULL
) STRICT""",
    "gone_by_key": "CREATE UNIQUE INDEX gone_by_key ON gone (scope, key)",
    "gone_again": "CREATE INDEX gone_again ON gone (key, scope)",
}
_OBJECTS_3: Final = {**_OBJECTS_2, **_EXPIRIES, **_HISTORY_3}
_OBJECTS_4: Final = {**_OBJECTS_2, **_EXPIRIES, **_HISTORY_4}

LAYOUTS: Final = {1: _OBJECTS_1, 2: _OBJECTS_2, 3: _OBJECTS_3, 4: _OBJECTS_4, 5: _OBJECTS_4}
"""What the database holds in each version, by name."""

CREATE: Final = f"""
BEGIN IMMEDIATE;
{";".join(_OBJECTS_4.values())};
INSERT INTO store VALUES (1, 0, {revision_checksum(0)}, 1);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_UPGRADE_1 = f"""
BEGIN IMMEDIATE;
DROP INDEX entries_by_key;
DROP INDEX entries_by_scope;
ALTER TABLE entries RENAME TO entries_1;
ALTER TABLE store RENAME TO store_1;
{_OBJECTS_2["entries"]};
{_OBJECTS_2["store"]};
INSERT INTO entries
  SELECT position, scope, key, revision, row_checksum(scope, key, position, revision, value), value
  FROM entries_1 ORDER BY position;
INSERT INTO store SELECT 1, last, revision_checksum(last), clean FROM
  (SELECT max(revision, (SELECT coalesce(max(position), 0) FROM entries_1)) AS last, clean FROM store_1);
DROP TABLE entries_1;
DROP TABLE store_1;
{";".join(sql for name, sql in _OBJECTS_2.items() if name not in ("entries", "store"))};
PRAGMA user_version = 2;
COMMIT;
"""

_UPGRADE_2 = f"""
BEGIN IMMEDIATE;
{";".join([*_EXPIRIES.values(), *_HISTORY_4.values()])};
PRAGMA user_version = 5;
COMMIT;
"""


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring an older layout up to this one, each step all or nothing."""
    if version == 1:
        log.info("The store is brought to a new layout; that is done once, and a large one takes a while.")
        _upgrade_1(connection)
    if version < 3:
        _run(connection, _UPGRADE_2)
    elif version == 3:
        upgrade_3(connection, _HISTORY_4.values())
    elif version == 4:
        upgrade_4(connection)


def _upgrade_1(connection: sqlite3.Connection) -> None:
    """Add checksums and the second way to a row, all or nothing."""

    def checksum(scope: str, key: str, position: int, revision: int, value: bytes) -> int:
        return row_checksum(name_checksum(scope, key), position, revision, value)

    connection.create_function("row_checksum", 5, checksum, deterministic=True)
    connection.create_function("revision_checksum", 1, revision_checksum, deterministic=True)
    try:
        _run(connection, _UPGRADE_1)
    finally:
        connection.create_function("row_checksum", 5, None)
        connection.create_function("revision_checksum", 1, None)


def _run(connection: sqlite3.Connection, script: str) -> None:
    try:
        connection.executescript(script)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
