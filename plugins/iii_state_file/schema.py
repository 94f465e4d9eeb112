"""The database: its schema, and opening it with every check that tells a usable store from another file."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from iii_skill.errors import StoreRefused
from iii_state_file.directory import describe_os_error, sync_directory

APPLICATION_ID = 0x69696973
SCHEMA_VERSION = 1

# `position` is the place in `list`: it rises with each first insertion and stays on overwrite.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE entries (
  position INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  revision INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_key ON entries (scope, key);
CREATE INDEX entries_by_scope ON entries (scope);
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0, 1);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

CLAIM = "UPDATE store SET revision = ?"
"""No revision above the stored one was ever used; after a crash all up to it count as used."""

_CHECKED_BYTES = 8 * 1024 * 1024
_CHECKED_BYTES_UNCLEAN = 32 * 1024 * 1024
_RESTORE = "restore a copy of it, or move it away to start with an empty store"


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes: checked, WAL, flushed at every commit, marked as in use."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            magic = file.read(16)
        if magic not in (b"", b"SQLite format 3\0"):
            raise StoreRefused(f"The file {path} is no SQLite database: {_RESTORE}.")
        return _open(path, size)
    except sqlite3.Error as error:
        raise StoreRefused(describe(path, error)) from error
    except OSError as error:
        raise StoreRefused(describe_os_error(path.parent, error)) from error


def _open(path: Path, size: int) -> sqlite3.Connection:
    connection = connect(path, "rw")
    try:
        _verify(connection, path, size)
        # The first write of a start: it shows a full or read-only disk before anyone relies on the store.
        connection.execute("UPDATE store SET clean = 0")
        # A rollback journal that SQLite deleted must not come back after a loss of power.
        sync_directory(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode, `mode` is `rw` or `ro`."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=2,
        cached_statements=160,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def finish(connection: sqlite3.Connection, revision: int) -> None:
    """Mark the store as cleanly closed at `revision`, move all into the database file and close it."""
    try:
        connection.execute("UPDATE store SET clean = 1, revision = ?", (revision,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()


def _verify(connection: sqlite3.Connection, path: Path, size: int) -> None:
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    tables = _number(connection, "SELECT count(*) FROM sqlite_schema")
    unborn = application == 0 and version == 0 and tables == 0
    if not unborn and application != APPLICATION_ID:
        raise StoreRefused(
            f"The file {path} is a database of another program: move it away or choose another data_dir."
        )
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"The file {path} was written by a newer version (schema {version}, this one reads "
            f"{SCHEMA_VERSION}): upgrade iii-skill or choose another data_dir."
        )
    # Half of SQLite's usual page: a write of one small value logs one page. It only counts for a new file.
    connection.execute("PRAGMA page_size = 2048")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -8192")
    if unborn:
        connection.executescript(_SCHEMA)
        return
    clean = _number(connection, "SELECT clean FROM store")
    if size <= (_CHECKED_BYTES if clean else _CHECKED_BYTES_UNCLEAN):
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreRefused(f"The file {path} is damaged ({' '.join(verdict.split())}): {_RESTORE}.")


def _number(connection: sqlite3.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    if row is None:
        raise sqlite3.DatabaseError("a row of its own is missing")
    return int(row[0])


def describe(path: Path, error: sqlite3.Error) -> str:
    """One sentence for an SQLite error while the store is opened."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return f"The disk of {path} is full: free some space or choose another data_dir."
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return (
            f"The file {path} cannot be opened for writing ({error}): change its permissions or choose "
            "another data_dir."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"The file {path} is open in another program: close that one or choose another data_dir."
    if name.startswith("SQLITE_IOERR"):
        return f"The disk of {path} failed ({error}): check the disk or choose another data_dir."
    return f"The file {path} is damaged ({error}): {_RESTORE}."
