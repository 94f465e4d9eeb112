"""Reader: read-only connections on their own threads, so that a slow disk never blocks the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import connect

StoredRow: TypeAlias = "tuple[int, int, bytes, int]"
"""The place in the question, then position, value and revision."""

# One statement looks up many keys: every statement costs a lock, every step a fight for the interpreter.
_LOOKUPS = {
    count: "SELECT asked.column1, position, value, revision FROM (VALUES "
    + ", ".join(f"({place}, ?, ?)" for place in range(count))
    + ") AS asked CROSS JOIN entries ON scope = asked.column2 AND key = asked.column3"
    for count in (64, 16, 4, 1)
}

LIST = "SELECT key, value FROM entries WHERE scope = ? ORDER BY position"
KEYS = "SELECT key FROM entries WHERE scope = ? ORDER BY position"
# Jumps from scope to scope in the index: its cost is the number of scopes, not of keys.
SCOPES = """
WITH RECURSIVE found(scope) AS (
  SELECT min(scope) FROM entries
  UNION ALL
  SELECT (SELECT min(scope) FROM entries WHERE scope > found.scope) FROM found WHERE found.scope IS NOT NULL
)
SELECT scope FROM found WHERE scope IS NOT NULL
"""


class Scan(NamedTuple):
    """One query over many rows and who waits for it; `single` takes the only column out of its row."""

    future: asyncio.Future[Any]
    query: str
    parameters: tuple[str, ...]
    single: bool


class KeyReader:
    """Reads current rows of single keys, all that are queued at once."""

    def __init__(
        self,
        path: Path,
        *,
        found: Callable[[Sequence[tuple[str, str]], Sequence[StoredRow | None]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connect(path, "ro")
        self._found = found
        self._failed = failed
        self._thread: QueueThread[list[tuple[str, str]]] = QueueThread(
            "reader", self._work, end=self._connection.close
        )
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    def _work(self, jobs: list[list[tuple[str, str]]]) -> None:
        names = [name for job in jobs for name in job]
        rows: list[StoredRow | None] = [None] * len(names)
        start = 0
        try:
            while start < len(names):
                count = next(size for size in _LOOKUPS if size <= len(names) - start)
                parameters = [text for name in names[start : start + count] for text in name]
                for row in self._connection.execute(_LOOKUPS[count], parameters).fetchall():
                    rows[start + row[0]] = row
                start += count
        except Exception as error:
            self._failed(error)
        else:
            self._found(names, rows)


class ScanReader:
    """Runs queries over whole scopes, one after another; each is one moment of the store."""

    def __init__(
        self,
        path: Path,
        *,
        found: Callable[[asyncio.Future[Any], Sequence[Any]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connect(path, "ro")
        self._found = found
        self._failed = failed
        self._thread: QueueThread[Scan] = QueueThread("scanner", self._work, end=self._connection.close)
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    def _work(self, scans: list[Scan]) -> None:
        for scan in scans:
            if scan.future.cancelled():
                self._found(scan.future, ())
                continue
            try:
                rows = self._connection.execute(scan.query, scan.parameters).fetchall()
            except Exception as error:
                self._failed(error)
                return
            self._found(scan.future, [row[0] for row in rows] if scan.single else rows)
