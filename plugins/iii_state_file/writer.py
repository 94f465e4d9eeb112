"""Writer: the one thread that changes the database; it only stores rows, commits and checkpoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec

from iii_state_file.lane import Lane
from iii_state_file.schema import finish

_DELETE = "DELETE FROM entries WHERE position = ?"
_INSERT = "INSERT INTO entries (position, scope, key, value, revision) VALUES (?, ?, ?, ?, ?)"
_UPDATE = "UPDATE entries SET value = ?, revision = ? WHERE position = ?"
_REVISION = "UPDATE store SET revision = ?"

_PAGE = 2048
_CHECKPOINT_BYTES = 16 * 1024 * 1024


class Batch(msgspec.Struct, gc=False):
    """What one tick of the event loop wrote: what is gone, new, changed, and the revision after it."""

    number: int
    deletes: list[tuple[int]]
    inserts: list[tuple[int, str, str, bytes | None, int]]
    updates: list[tuple[bytes | None, int, int]]
    revision: int


class Writer:
    """Commits every queued batch in one transaction, then says so; the first error is its last act."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        committed: Callable[[int], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connection
        self._committed = committed
        self._failed = failed
        self._broken = False
        self._unchecked = 0
        self._lane: Lane[Batch] = Lane("writer", self._work, end=self._end)
        self.put = self._lane.put
        self.stop = self._lane.stop
        self.join = self._lane.join

    @property
    def broken(self) -> bool:
        """True after an error: nothing is written any more."""
        return self._broken

    def _work(self, batches: list[Batch]) -> None:
        if self._broken:
            return
        try:
            self._commit(batches)
            self._committed(batches[-1].number)
            if self._unchecked >= _CHECKPOINT_BYTES:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._unchecked = 0
        except Exception as error:
            # Never again: after a failed flush the kernel may report the same pages as clean.
            self._broken = True
            self._failed(error)

    def _commit(self, batches: list[Batch]) -> None:
        run, run_many = self._connection.execute, self._connection.executemany
        run("BEGIN IMMEDIATE")
        size = 0
        for batch in batches:
            # Deletes come first: a key that was deleted and set again takes a new position.
            if batch.deletes:
                run_many(_DELETE, batch.deletes)
            if batch.inserts:
                run_many(_INSERT, batch.inserts)
            if batch.updates:
                run_many(_UPDATE, batch.updates)
            size += _PAGE * (len(batch.deletes) + len(batch.inserts) + len(batch.updates) + 1)
        run(_REVISION, (batches[-1].revision,))
        run("COMMIT")
        self._unchecked += size

    def _end(self) -> None:
        if self._broken:
            self._connection.close()
            return
        try:
            finish(self._connection)
        except Exception as error:
            self._broken = True
            self._failed(error)
