"""BatchWriter: the one thread that changes the database; it only stores rows, commits and checkpoints.

Every step of a statement gives the interpreter away and has to fight for it again, so the rows of a commit
are one statement that commits by itself; a transaction of several is taken only where it has to be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import cast

import msgspec

from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import CLAIM, finish

_DELETE = "DELETE FROM entries WHERE position = ?"

_MOST_ROWS = 128
"""Rows in one statement; Python keeps as many statements prepared as schema.connect says."""

_FIELDS = 5
_VALUE = 3
"""The fields of a row, and which one of them is the value."""

REVISIONS = 1_000_000
"""Revisions that are claimed at a time, so that no commit has to store the last one."""

_PAGE = 2048
_CHECKPOINT_BYTES = 16 * 1024 * 1024


class Batch(msgspec.Struct, gc=False):
    """What one tick of the event loop wrote: positions that are gone, rows that are there, the revision.

    `rows` holds position, scope, key, value and revision of each row in turn.
    """

    number: int
    deletes: list[tuple[int]]
    rows: list[int | str | bytes | None]
    revision: int


class BatchWriter:
    """Commits every queued batch in one transaction, then says so; the first error is its last act."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        revision: int,
        committed: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """`revision` is the last one that was claimed or used before."""
        self._connection = connection
        self._revision = self._claimed = revision
        self._committed = committed
        self._failed = failed
        self._broken = False
        self._unchecked = 0
        self._thread: QueueThread[Batch] = QueueThread("writer", self._work, end=self._end)
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    @property
    def broken(self) -> bool:
        """True after an error: nothing is written any more."""
        return self._broken

    def _work(self, batches: list[Batch]) -> None:
        if self._broken:
            return
        try:
            self._commit(batches)
            self._revision = batches[-1].revision
            self._committed(batches[-1].number)
            if self._unchecked >= _CHECKPOINT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._unchecked = 0
        except Exception as error:
            # Never again: after a failed flush the kernel may report the same pages as clean.
            self._broken = True
            self._failed(error)

    def _commit(self, batches: list[Batch]) -> None:
        last = batches[-1].revision
        rows = batches[0].rows
        if len(batches) > 1:
            rows = [value for batch in batches for value in batch.rows]
        count = len(rows) // _FIELDS
        deletes = sum(len(batch.deletes) for batch in batches)
        if deletes or count > _MOST_ROWS or last > self._claimed:
            self._commit_all(batches, last)
        elif rows:
            # Not `execute`: that also asks for the last row id, one more fight for the interpreter.
            self._connection.executemany(_put(count), (rows,))
        values = cast(list[bytes], rows[_VALUE::_FIELDS])
        self._unchecked += _PAGE * (count + deletes + 1) + sum(map(len, values))

    def _commit_all(self, batches: list[Batch], last: int) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        for batch in batches:
            # Deletes come first: a key that was deleted and set again takes a new position.
            self._connection.executemany(_DELETE, batch.deletes)
            for start in range(0, len(batch.rows), _FIELDS * _MOST_ROWS):
                rows = batch.rows[start : start + _FIELDS * _MOST_ROWS]
                run(_put(len(rows) // _FIELDS), rows)
        claimed = self._claimed
        if last > claimed:
            claimed = last + REVISIONS
            run(CLAIM, (claimed,))
        run("COMMIT")
        self._claimed = claimed

    def _end(self) -> None:
        if self._broken:
            self._connection.close()
            return
        try:
            finish(self._connection, self._revision)
        except Exception as error:
            self._broken = True
            self._failed(error)


@cache
def _put(count: int) -> str:
    """The statement that stores so many rows, new ones and those that are there."""
    return (
        "INSERT INTO entries (position, scope, key, value, revision) VALUES "
        + ", ".join(["(?, ?, ?, ?, ?)"] * count)
        + " ON CONFLICT (position) DO UPDATE SET value = excluded.value, revision = excluded.revision"
    )
