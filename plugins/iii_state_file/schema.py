"""The database: its schema, its upgrades, and opening it with every check that tells a usable store apart.

A store is looked at through a connection that only reads: a refused one is left exactly as it was found, its
log included.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from iii_skill.errors import StoreRefused
from iii_state_file.checksums import revision_checksum
from iii_state_file.directory import LOG, RESTORE, DataDirectory, describe_os_error, sync_directory
from iii_state_file.layouts import APPLICATION_ID, CREATE, LAYOUTS, SCHEMA_VERSION, upgrade
from iii_state_file.log import LogEnd, LogIndex, log_damage

log = logging.getLogger("iii_state_file")

CLAIM = "UPDATE store SET revision = ?, checksum = ?"
"""No revision above the stored one was ever used; after a crash all up to it count as used."""

WITH_ENDS = "LEFT JOIN expiries ON expiries.position = entries.position"
"""What `entries` are joined with to be read with their ends."""

_CHECKED_BYTES = 8 * 1024 * 1024
_CHECKED_BYTES_UNCLEAN = 32 * 1024 * 1024

_LOCKED = "database is locked"
_ROW_OVERHEAD = 4096
"""More than what SQLite and the other columns add to a value and its name."""

_BUSY_SECONDS = 2
BUSY_STEP_SECONDS = 0.2
"""How long a thread waits in SQLite for the lock of another program before it looks whether it should end."""


class OpenDatabase(NamedTuple):
    """What `open_database` found and opened."""

    connection: sqlite3.Connection
    log_index: LogIndex
    revision: int
    longest: int
    """The most bytes that a value and its name may have together."""
    page_size: int


def open_database(directory: DataDirectory, *, accept_data_loss: bool) -> OpenDatabase:
    """The one connection that writes: checked, upgraded, WAL, flushed at every commit, marked as in use."""
    path = directory.database
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            magic = file.read(16)
        if magic not in (b"", b"SQLite format 3\0"):
            raise StoreRefused(f"The file {path} is no SQLite database: {RESTORE}.")
        _roll_back(path)
        # A connection that may use a log makes one where there is none.
        log_there = (path.parent / LOG).exists()
        looking = connect(path, "ro" if log_there else "ro&immutable=1", timeout=_BUSY_SECONDS)
        index = None
        try:
            version = _check_schema(looking, path)
            if version:
                index = LogIndex(path) if log_there and os.path.exists(f"{path}-shm") else None
                clean = _number(looking, "SELECT clean FROM store") != 0
                if version == 1 or not _log_was_taken_over(looking, directory):
                    try:
                        _check_log(directory, index, version, clean=clean, log_there=log_there)
                    except StoreRefused as lost:
                        if not accept_data_loss:
                            raise
                        log.warning("Started with data loss, as accept_data_loss says. %s", lost.message)
                if size <= (_CHECKED_BYTES if clean else _CHECKED_BYTES_UNCLEAN):
                    _check_pages(looking, path)
            # Before the other one is closed: the first connection of a process reads the whole log.
            return _open(directory, version, index)
        except BaseException:
            looking.close()
            if index is not None:
                index.close()
            raise
        finally:
            looking.close()
    # Damage makes Python fail in its own way, too: on text that is no UTF-8, on a number that is none.
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise StoreRefused(describe(path, error)) from error
    except OSError as error:
        raise StoreRefused(describe_os_error(path.parent, error)) from error


def connect(path: Path, mode: str, *, timeout: float = BUSY_STEP_SECONDS) -> sqlite3.Connection:
    """A connection in autocommit mode, `mode` is `rw` or `ro`."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=timeout,
        cached_statements=160,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        # Nothing is opened later on: there may be no descriptor left by then.
        connection.execute("PRAGMA temp_store = MEMORY")
        # SQLite opens the files of a connection when it first reads.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def finish(connection: sqlite3.Connection, revision: int) -> None:
    """Mark the store as cleanly closed at `revision` and move all into the database file."""
    connection.execute(f"{CLAIM}, clean = 1", (revision, revision_checksum(revision)))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def close_unfinished(connection: sqlite3.Connection, path: Path) -> None:
    """Close a connection that writes, and leave log and database as they are.

    The last connection moves the log into the database and removes it, unless it may only read.
    """
    try:
        last = connect(path, "ro")
    except sqlite3.Error:
        connection.close()
    else:
        connection.close()
        last.close()


def _open(directory: DataDirectory, version: int, index: LogIndex | None) -> OpenDatabase:
    path = directory.database
    connection = connect(path, "rw", timeout=_BUSY_SECONDS)
    own_index = None
    try:
        # Half of SQLite's usual page: a write of one small value logs one page. Only for a new file.
        connection.execute("PRAGMA page_size = 2048")
        # It does not always raise what keeps it from making a log.
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreRefused(
                f"The file {path} cannot have a log beside it: check the disk, close other programs that use "
                "it, or choose another data_dir."
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -8192")
        # Some systems build SQLite so that the pages of an old value are written once more, as zeros.
        connection.execute("PRAGMA secure_delete = FAST")
        if version == 0:
            connection.executescript(CREATE)
        else:
            upgrade(connection, version)
        # The first write of a start: it shows a full or read-only disk before anyone relies on the store.
        connection.execute("UPDATE store SET clean = 0")
        if index is None:
            index = own_index = LogIndex(path)
        # From here on the main file itself says that its log belongs to it, and the log holds this run alone.
        directory.notes.start(established=True)
        blocked, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if blocked:
            raise sqlite3.OperationalError(_LOCKED)
        # A rollback journal that SQLite deleted must not come back after a loss of power.
        sync_directory(path.parent)
        revision = _number(connection, "SELECT revision FROM store")
        page_size = _number(connection, "PRAGMA page_size")
        longest = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - _ROW_OVERHEAD
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_STEP_SECONDS * 1000)}")
    except BaseException:
        close_unfinished(connection, path)
        if own_index is not None:
            own_index.close()
        raise
    return OpenDatabase(connection, index, revision, longest, page_size)


def _roll_back(path: Path) -> None:
    """Undo what a crash left of the creation of the store, from before it has a log."""
    if os.path.exists(f"{path}-journal"):
        connect(path, "rw", timeout=_BUSY_SECONDS).close()


def _check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the layout; 0 for a database that is still empty."""
    application = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    found = dict(
        connection.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")
    )
    if application == 0 and version == 0 and not found:
        return 0
    if application != APPLICATION_ID:
        raise StoreRefused(
            f"The file {path} is a database of another program: move it away or choose another data_dir."
        )
    if version > SCHEMA_VERSION:
        raise StoreRefused(
            f"The file {path} was written by a newer version (schema {version}, this one reads "
            f"{SCHEMA_VERSION}): upgrade iii-skill or choose another data_dir."
        )
    if version not in LAYOUTS:
        raise StoreRefused(f"The file {path} is damaged (its schema has version {version}): {RESTORE}.")
    wanted = LAYOUTS[version]
    for name, sql in wanted.items():
        if found.get(name) != sql:
            how = "has another shape" if name in found else "is missing"
            raise StoreRefused(f"The file {path} is damaged ('{name}' {how}): {RESTORE}.")
    foreign = sorted(found.keys() - wanted.keys())
    if foreign:
        raise StoreRefused(
            f"The file {path} holds '{foreign[0]}', which another program put there: drop it there, or "
            f"{RESTORE}."
        )
    rows = connection.execute("SELECT * FROM store").fetchall()
    if len(rows) != 1 or (version > 1 and rows[0][2] != revision_checksum(rows[0][1])):
        raise StoreRefused(f"The file {path} is damaged (the row of table 'store'): {RESTORE}.")
    return version


def _log_was_taken_over(connection: sqlite3.Connection, directory: DataDirectory) -> bool:
    """Whether another program, the last one to close the database, moved all of the log into it."""
    path = directory.path / LOG
    if directory.notes.last_row is None or (path.exists() and os.path.getsize(path)):
        return False
    position, revision = directory.notes.last_row
    row = connection.execute("SELECT revision FROM entries WHERE position = ?", (position,)).fetchone()
    # Newer is fine: after a loss of power the note may be an old one.
    return row is not None and row[0] >= revision


def _check_log(
    directory: DataDirectory, index: LogIndex | None, version: int, *, clean: bool, log_there: bool
) -> None:
    """Refuse a database whose log is gone or does not hold all that was flushed."""
    path = directory.path / LOG
    advice = "restore a copy of the whole directory, or set accept_data_loss: true to start without them"
    if not log_there:
        if not clean:
            raise StoreRefused(
                f"The file {directory.database} was in use and its log {LOG} is missing, so the last changes "
                f"are: put it back, {advice}."
            )
        return
    if clean and os.path.getsize(path) == 0:
        return
    notes = directory.notes
    found = 0 if index is None else LogEnd.parse(index.end()).frames
    noted = notes.end
    if noted is None and (notes.begun or version == 1):
        noted = LogEnd(0, (0, 0))
    # The old layout did not empty its log at the start, so what follows its end may be of an earlier run.
    damage = log_damage(path, sys.maxsize if version == 1 else found, noted)
    if damage is not None:
        raise StoreRefused(f"The log {path} is damaged ({damage}), so the last changes are lost: {advice}.")


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StoreRefused(f"The file {path} is damaged ({' '.join(verdict.split())}): {RESTORE}.")


def first_end(connection: sqlite3.Connection) -> int | None:
    """When the first key ends, in ms since 1970; None: none does."""
    found: int | None = connection.execute("SELECT min(at_ms) FROM expiries").fetchone()[0]
    return found


def _number(connection: sqlite3.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    if row is None:
        raise sqlite3.DatabaseError("a row of its own is missing")
    return int(row[0])


def describe(path: Path, error: Exception) -> str:
    """One sentence for an SQLite error while the store is opened."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return f"The disk of {path} is full: free some space or choose another data_dir."
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return (
            f"The file {path} cannot be opened for writing ({error}): change its permissions or choose "
            "another data_dir."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or error.args == (_LOCKED,):
        return f"The file {path} is open in another program: close that one or choose another data_dir."
    if name.startswith("SQLITE_IOERR"):
        return f"The disk of {path} failed ({error}): check the disk or choose another data_dir."
    return f"The file {path} is damaged ({error}): {RESTORE}."
