"""BatchWriter: the one thread that changes the database; it only stores rows, commits and checkpoints.

Every step of a statement gives the interpreter away and has to fight for it again, so the rows of a commit
are one statement that commits by itself; a transaction of several is taken only where it has to be.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import msgspec

from iii_state_file.checksums import revision_checksum, row_checksum
from iii_state_file.failures import is_passing, patiently
from iii_state_file.floor import leave
from iii_state_file.log import LogNotes
from iii_state_file.packs import FIELDS, INSERT, INSERT_GONE, Row, covered, make_rows
from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import CLAIM, OpenDatabase, close_unfinished, finish
from iii_state_file.trimming import Bounds, Trimming

_NO_END = "DELETE FROM expiries WHERE position = ?"
_END = "INSERT OR REPLACE INTO expiries (position, at_ms, checksum) VALUES (?, ?, ?)"

_MOST_ROWS = 128
"""Rows in one statement; Python keeps as many statements prepared as schema.connect says."""

_COLUMNS = "position, scope, key, revision, checksum, value"
_ROW_FIELDS = 6
"""The columns of a row; the value is the last one."""

REVISIONS = 1_000_000
"""Revisions that are claimed at a time, so that no commit has to store the last one."""

_PAGE = 2048
_CHECKPOINT_BYTES = 24 * 1024 * 1024
"""Callers wait for a checkpoint, so it is rare; a start after a crash reads as much again."""


class ExpiryRows(msgspec.Struct, gc=False):
    """The ends that were changed: positions that have none any more, and position, moment, checksum."""

    deletes: list[tuple[int]]
    rows: list[tuple[int, int, int]]


class TickVersions(msgspec.Struct, gc=False):
    """The versions that one tick made, as `packs` says, and those of keys that it left without a value."""

    at_ms: int
    fields: list[Any]
    gone: list[tuple[int, str, str, int]]


class WriteBatch(msgspec.Struct, gc=False):
    """What one tick of the event loop wrote: positions that are gone, rows that are there, the revision.

    `rows` holds the columns of each row in turn, as `_COLUMNS` names them.
    """

    number: int
    deletes: list[int]
    rows: list[int | str | bytes | None]
    large: list[int]
    """Where the rows begin whose checksum is still to be made out of what it starts from."""
    revision: int
    expiries: ExpiryRows | None = None
    versions: TickVersions | None = None
    trim: Bounds | None = None

    def complete(self) -> None:
        """Make those checksums."""
        rows = cast("list[Any]", self.rows)
        for at in self.large:
            position, _, _, revision, start, value = rows[at : at + _ROW_FIELDS]
            rows[at + 4] = row_checksum(start, position, revision, value)
        self.large = []


class BatchWriter:
    """Commits every queued batch in one transaction, then says so; the first error is its last act."""

    def __init__(
        self,
        path: Path,
        database: OpenDatabase,
        notes: LogNotes,
        ending: threading.Event,
        *,
        committed: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._path = path
        self._connection = database.connection
        self._log_index = database.log_index
        self._notes = notes
        self._ending = ending
        self._revision = self._claimed = database.revision
        """The last one that was used, and the last one that may be without another claim."""
        self._committed = committed
        self._failed = failed
        self._broken = False
        self._unchecked = 0
        self._covered = covered(database.connection)
        """Up to this revision there are packs of versions."""
        self._trimming = Trimming(database.connection)
        self._thread: QueueThread[WriteBatch] = QueueThread("writer", self._work, end=self._end)
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    @property
    def broken(self) -> bool:
        """True after an error: nothing is written any more."""
        return self._broken

    def give_up(self) -> None:
        """Write nothing any more: the files are not those of the store."""
        self._broken = True

    def _work(self, batches: list[WriteBatch]) -> None:
        if self._broken:
            return
        try:
            for batch in batches:
                if batch.large:
                    batch.complete()
            # Another program's lock goes away: the callers wait.
            patiently(lambda: self._commit(batches), self._ending, seconds=math.inf)
            rows = batches[-1].rows
            # Position and revision of its last row.
            last_row = (rows[-_ROW_FIELDS], rows[3 - _ROW_FIELDS]) if rows else (0, 0)
            self._notes.note(self._log_index.end(), *cast("tuple[int, int]", last_row))
            self._revision = batches[-1].revision
            if self._broken:
                return
            self._committed(batches[-1].number)
            if self._unchecked >= _CHECKPOINT_BYTES:
                self._checkpoint()
        except Exception as error:
            # Never again: after a failed flush the kernel may report the same pages as clean.
            self._broken = True
            self._failed(error)

    def _commit(self, batches: list[WriteBatch]) -> None:
        last = batches[-1].revision
        rows = batches[0].rows
        if len(batches) > 1:
            rows = [value for batch in batches for value in batch.rows]
        count = len(rows) // _ROW_FIELDS
        deletes = sum(len(batch.deletes) for batch in batches)
        packs: list[Row] = []
        upto = self._covered
        for batch in batches:
            if batch.versions is not None:
                packs += make_rows(upto, batch.revision, batch.versions.at_ms, batch.versions.fields)
                upto = batch.revision
                previous, starts = batch.versions.fields[::FIELDS], batch.versions.fields[3::FIELDS]
                self._trimming.follow(previous, starts, batch.versions.at_ms)
        if deletes or any(map(_has_more, batches)) or count > _MOST_ROWS or last > self._claimed:
            # Several statements, all or nothing.
            self._commit_all(batches, packs, last)
        elif packs:
            self._connection.execute("BEGIN IMMEDIATE")
            if rows:
                self._connection.executemany(_put(count), (rows,))
            self._connection.executemany(INSERT, packs)
            self._connection.execute("COMMIT")
        elif rows:
            # Not `execute`: that also asks for the last row id, one more fight for the interpreter.
            self._connection.executemany(_put(count), (rows,))
        self._covered = upto
        values = cast(list[bytes], rows[_ROW_FIELDS - 1 :: _ROW_FIELDS])
        self._unchecked += _PAGE * (count + deletes + 1) + sum(map(len, values))
        self._unchecked += sum(_PAGE + len(heads) + len(body) for _, _, _, heads, body in packs)

    def _commit_all(self, batches: list[WriteBatch], packs: list[Row], last: int) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        for batch in batches:
            # Deletes come first: a key that was deleted and set again takes a new position.
            for start in range(0, len(batch.deletes), _MOST_ROWS):
                positions = batch.deletes[start : start + _MOST_ROWS]
                # Filled up with the last one, so that few statements have to be prepared.
                count = 1 << (len(positions) - 1).bit_length()
                run(_delete(count), positions + positions[-1:] * (count - len(positions)))
            for start in range(0, len(batch.rows), _ROW_FIELDS * _MOST_ROWS):
                rows = batch.rows[start : start + _ROW_FIELDS * _MOST_ROWS]
                run(_put(len(rows) // _ROW_FIELDS), rows)
            if batch.versions is not None:
                self._connection.executemany(INSERT_GONE, batch.versions.gone)
            if batch.expiries is not None:
                self._connection.executemany(_NO_END, batch.expiries.deletes)
                self._connection.executemany(_END, batch.expiries.rows)
        self._connection.executemany(INSERT, packs)
        for batch in batches:
            if batch.trim is not None:
                self._unchecked += self._trimming.step(batch.trim)
        claimed = self._claimed
        if last > claimed:
            claimed = last + REVISIONS
            run(CLAIM, (claimed, revision_checksum(claimed)))
        run("COMMIT")
        self._claimed = claimed

    def _checkpoint(self) -> None:
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.OperationalError as error:
            if not is_passing(error):
                raise
        self._unchecked = 0

    def _end(self) -> None:
        if self._broken:
            # The readers are open still, so this one leaves the log alone.
            self._connection.close()
            return
        try:
            leave(self._connection, self._revision)
            finish(self._connection, self._revision)
        except Exception as error:
            # Under another program's lock the mark stays: the next start reads the log, nothing is lost.
            if not is_passing(error):
                self._broken = True
                self._failed(error)
            close_unfinished(self._connection, self._path)
        else:
            self._connection.close()


def _has_more(batch: WriteBatch) -> bool:
    versions = batch.versions
    return (
        batch.expiries is not None or batch.trim is not None or (versions is not None and bool(versions.gone))
    )


@cache
def _delete(count: int) -> str:
    """The statement that deletes so many rows: one step, and not one for each."""
    return f"DELETE FROM entries WHERE position IN ({', '.join('?' * count)})"


@cache
def _put(count: int) -> str:
    """The statement that stores so many rows, new ones and those that are there."""
    return (
        f"INSERT INTO entries ({_COLUMNS}) VALUES "
        + ", ".join(["(?, ?, ?, ?, ?, ?)"] * count)
        + " ON CONFLICT (position) DO UPDATE SET "
        "revision = excluded.revision, checksum = excluded.checksum, value = excluded.value"
    )
