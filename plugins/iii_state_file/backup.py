"""Backup and check: a copy of a store that is open or closed, and proof that every row of one is whole."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iii_skill.errors import StoreRefused
from iii_state_file.checksums import expiry_checksum, name_checksum, row_checksum
from iii_state_file.directory import (
    DATABASE,
    DirectoryInUse,
    claim_directory,
    sync_directory,
)
from iii_state_file.failures import DamagedVersions, StoreBroken
from iii_state_file.packs import check_packs
from iii_state_file.schema import connect, describe, finish, open_database

_PART = f"{DATABASE}.part"


def back_up(source: Path, target: Path) -> int:
    """Copy the store in `source` as it is at one moment into the new directory `target`; gives how many keys.

    A host may have it open and go on writing. The copy is a closed store: every row of it was checked, and it
    stands under its name only when it is on the disk. StoreRefused says what is wrong.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise StoreRefused(f"The directory {target} is not empty: name a new one for the copy.")
        os.close(os.open(target / _PART, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with _reading(source) as store, _writing(target / _PART) as copy:
                try:
                    store.backup(copy)
                    # Nothing is in use in a copy: there is no log that it could miss.
                    copy.execute("UPDATE store SET clean = 1")
                except sqlite3.Error as error:
                    if error.sqlite_errorname != "SQLITE_FULL":
                        raise
                    # The store is only read: it is the copy that finds no room.
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                count = _verify(copy, source)
            with open(target / _PART, "rb") as file:
                os.fsync(file.fileno())
            os.rename(target / _PART, target / DATABASE)
            sync_directory(target)
        except BaseException:
            for left in target.glob(f"{_PART}*"):
                left.unlink()
            raise
    except sqlite3.Error as error:
        raise StoreRefused(describe(source / DATABASE, error)) from error
    except OSError as error:
        text = f"The copy in {target} cannot be written ({error.strerror or error}): name another directory."
        raise StoreRefused(text) from error
    return count


def check(source: Path) -> int:
    """Read every row of the store, open or closed; gives the count of keys; StoreRefused names damage."""
    try:
        with _reading(source) as store:
            return _verify(store, source)
    except sqlite3.Error as error:
        raise StoreRefused(describe(source / DATABASE, error)) from error


@contextmanager
def _reading(source: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the store: beside the host that has it open, or as its only user."""
    if not (source / DATABASE).is_file():
        raise StoreRefused(f"There is no store in {source}: name the directory that holds {DATABASE}.")
    try:
        directory = claim_directory(str(source), allow_network_fs=True, only_read=True)
    except DirectoryInUse:
        store = connect(source.absolute() / DATABASE, "ro", timeout=5)
        try:
            yield store
        finally:
            store.close()
        return
    # What a crash left is looked at as at every start.
    try:
        database = open_database(directory, accept_data_loss=False)
        try:
            yield database.connection
        finally:
            try:
                finish(database.connection, database.revision)
            finally:
                database.connection.close()
                database.log_index.close()
    finally:
        directory.release()


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        yield copy
        # The log of the copy goes into it, and away.
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        copy.close()


def _verify(store: sqlite3.Connection, source: Path) -> int:
    """Structure, indexes and every row."""
    verdict = store.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StoreRefused(f"The store in {source} is damaged ({' '.join(verdict.split())}): restore a copy.")
    damage = StoreRefused(f"The store in {source} is damaged (ends or versions of keys): restore a copy.")
    for position, at_ms, checksum in store.execute("SELECT position, at_ms, checksum FROM expiries"):
        if expiry_checksum(position, at_ms) != checksum:
            raise damage
    try:
        check_packs(store)
    except (DamagedVersions, StoreBroken):
        raise damage from None
    count = 0
    rows = store.execute("SELECT scope, key, position, revision, checksum, value FROM entries")
    for scope, key, position, revision, checksum, value in rows:
        count += 1
        if row_checksum(name_checksum(scope, key), position, revision, value) != checksum:
            raise StoreRefused(
                f"The store in {source} is damaged (row of key {key!r} in scope {scope!r}): restore a copy."
            )
    return count
