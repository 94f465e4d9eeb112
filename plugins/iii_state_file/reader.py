"""Reader: read-only connections on their own threads, so that a slow disk never blocks the event loop.

Every row is checked against its checksum, every absence against a second index: damage is an error.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from iii_skill.adapter import Page
from iii_skill.errors import AdapterError
from iii_state_file.checksums import name_checksum, row_checksum
from iii_state_file.failures import DamagedRow, StoreBroken, damaged, patiently, verdict
from iii_state_file.listings import Listing
from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import connect

_PATIENCE_SECONDS = 5

# One statement looks up many keys: every statement costs a lock, every step a fight for the interpreter.
_COUNTS = (64, 16, 4, 1)

LIST = """SELECT position, key, revision, checksum, value
FROM entries INDEXED BY entries_by_scope WHERE scope = ? ORDER BY position"""
PAGE = LIST.replace("scope = ?", "scope = ? AND position > ?") + " LIMIT ?"
KEYS = "SELECT key FROM entries INDEXED BY entries_by_scope WHERE scope = ? ORDER BY position"
_KEYS_AGAIN = "SELECT key FROM entries INDEXED BY entries_by_key WHERE scope = ?"
_COUNT = "SELECT count(*) FROM entries INDEXED BY entries_by_key WHERE scope = ?"
_COUNT_AGAIN = "SELECT count(*) FROM entries INDEXED BY entries_by_scope WHERE scope = ?"


def _jump(index: str) -> str:
    """All scopes from scope to scope in an index: the cost is the number of scopes, not of keys."""
    return f"""
WITH RECURSIVE found(scope) AS (
  SELECT min(scope) FROM entries INDEXED BY {index}
  UNION ALL
  SELECT (SELECT min(scope) FROM entries INDEXED BY {index} WHERE scope > found.scope)
  FROM found WHERE found.scope IS NOT NULL
)
SELECT scope FROM found WHERE scope IS NOT NULL
"""


SCOPES = _jump("entries_by_scope")
_SCOPES_AGAIN = _jump("entries_by_key")


class StoredKey(NamedTuple):
    """What the database holds of a key; position 0 and no value where there is no such key."""

    start: int
    """What its checksums start from."""
    position: int
    value: bytes | None


class Scan(NamedTuple):
    """One query over many rows and who asked: a listing that is made, or the one caller."""

    asker: Listing | asyncio.Future[Any]
    query: str
    scope: str
    after: int = 0
    """The position before a page."""
    limit: int = 0


class KeyReader:
    """Reads current rows of single keys, all that are queued at once."""

    def __init__(
        self,
        path: Path,
        ending: threading.Event,
        *,
        found: Callable[[Sequence[tuple[str, str]], Sequence[StoredKey | AdapterError]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connect(path, "ro")
        self._ending = ending
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
        try:
            self._found(
                names, patiently(lambda: self._look_up(names), self._ending, seconds=_PATIENCE_SECONDS)
            )
        except Exception as error:
            failure = verdict(error)
            if isinstance(failure, StoreBroken):
                self._failed(failure)
            else:
                self._found(names, [failure] * len(names))

    def _look_up(self, names: list[tuple[str, str]]) -> list[StoredKey | AdapterError]:
        found: list[StoredKey | AdapterError | None] = [None] * len(names)
        texts = [text for name in names for text in name]
        for start, count in _parts(len(names)):
            rows = self._connection.execute(_by_key(count), texts[2 * start : 2 * (start + count)]).fetchall()
            for place, position, revision, checksum, value in rows:
                found[start + place] = _checked(names[start + place], position, revision, checksum, value)
        absent = [place for place, row in enumerate(found) if row is None]
        for start, count in _parts(len(absent)):
            texts = [text for place in absent[start : start + count] for text in names[place]]
            for (place,) in self._connection.execute(_again(count), texts).fetchall():
                scope, key = names[absent[start + place]]
                raise damaged(f"the index of keys lost {key!r} in scope {scope!r}")
        for place in absent:
            found[place] = StoredKey(name_checksum(*names[place]), 0, None)
        return [row for row in found if row is not None]


class ScanReader:
    """Runs queries over whole scopes, one after another; each is one moment of the store."""

    def __init__(
        self,
        path: Path,
        ending: threading.Event,
        *,
        found: Callable[[Listing | asyncio.Future[Any], Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connect(path, "ro")
        self._ending = ending
        self._found = found
        self._failed = failed
        self._thread: QueueThread[Scan] = QueueThread("scanner", self._work, end=self._connection.close)
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    def _work(self, scans: list[Scan]) -> None:
        for scan in scans:
            if isinstance(scan.asker, asyncio.Future) and scan.asker.cancelled():
                self._found(scan.asker, ())
                continue
            try:
                rows = patiently(lambda scan=scan: self._run(scan), self._ending, seconds=_PATIENCE_SECONDS)  # type: ignore[misc]
            except Exception as error:
                failure = verdict(error)
                if isinstance(failure, StoreBroken):
                    self._failed(failure)
                    return
                self._found(scan.asker, failure)
            else:
                self._found(scan.asker, rows)

    def _run(self, scan: Scan) -> Any:
        run = self._connection.execute
        # Both halves of a check see one moment.
        run("BEGIN")
        try:
            if scan.query is SCOPES:
                scopes = [scope for (scope,) in run(SCOPES).fetchall()]
                if scopes != [scope for (scope,) in run(_SCOPES_AGAIN).fetchall()]:
                    raise damaged("its indexes hold different scopes")
                return scopes
            scope = (scan.scope,)
            if scan.query is PAGE:
                # One more than asked for: whether there is another page.
                rows = run(PAGE, (scan.scope, scan.after, scan.limit + 1)).fetchall()
                count = run(_COUNT_AGAIN, scope).fetchone()[0]
            else:
                rows = run(scan.query, scope).fetchall()
                count = len(rows)
                if scan.query is KEYS:
                    # No value is read, so the keys of an index prove those of the rows.
                    again = {key for (key,) in run(_KEYS_AGAIN, scope).fetchall()}
                    if len(again) != count or not again.issuperset([key for (key,) in rows]):
                        raise damaged(f"its indexes hold different keys of scope {scan.scope!r}")
                    return _distinct(scan.scope, rows)
            if count != run(_COUNT, scope).fetchone()[0]:
                raise damaged(f"its indexes hold different keys of scope {scan.scope!r}")
        finally:
            run("COMMIT")
        if scan.query is LIST:
            return _checked_pairs(scan.scope, rows)
        shown = rows[: scan.limit]
        after = str(shown[-1][0]) if len(rows) > scan.limit else None
        return Page(_checked_pairs(scan.scope, shown), after, count)


def _checked(
    asked: tuple[str, str], position: Any, revision: Any, checksum: Any, value: Any
) -> StoredKey | AdapterError:
    start = name_checksum(*asked)
    try:
        if row_checksum(start, position, revision, value) == checksum:
            return StoredKey(start, position, value)
    except TypeError:
        pass  # A damaged header changes types, too.
    return DamagedRow(*asked)


def _checked_pairs(scope: str, rows: list[tuple[Any, ...]]) -> list[tuple[str, bytes]]:
    pairs = []
    last = 0
    for position, key, revision, checksum, value in rows:
        try:
            good = row_checksum(name_checksum(scope, key), position, revision, value) == checksum
        except (TypeError, AttributeError):
            good = False
        # The same row twice stands for one that is not shown.
        if not good or position <= last:
            raise DamagedRow(scope, key)
        last = position
        pairs.append((key, value))
    return pairs


def _distinct(scope: str, rows: list[tuple[str]]) -> list[str]:
    keys = [key for (key,) in rows]
    if len(set(keys)) < len(keys):
        raise damaged(f"a key of scope {scope!r} is there twice")
    return keys


def _parts(length: int) -> list[tuple[int, int]]:
    """Start and length of the parts that fill it, each as long as one of the statements."""
    parts = []
    start = 0
    while start < length:
        count = next(size for size in _COUNTS if size <= length - start)
        parts.append((start, count))
        start += count
    return parts


@cache
def _by_key(count: int) -> str:
    asked = ", ".join(f"({place}, ?, ?)" for place in range(count))
    return (
        f"SELECT asked.column1, position, revision, checksum, value FROM (VALUES {asked}) AS asked "
        "CROSS JOIN entries INDEXED BY entries_by_key ON scope = asked.column2 AND key = asked.column3"
    )


@cache
def _again(count: int) -> str:
    asked = ", ".join(f"({place}, ?, ?)" for place in range(count))
    return (
        f"SELECT asked.column1 FROM (VALUES {asked}) AS asked "
        "CROSS JOIN entries INDEXED BY entries_again ON key = asked.column3 AND scope = asked.column2"
    )
