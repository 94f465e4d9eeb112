"""ScanReader: runs queries over many rows on a connection and a thread of its own, each at one moment.

Every row is checked against its checksum, every number of rows against a second index: damage is an error.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from iii_skill.adapter import Page, PastPage, Version
from iii_state_file.checksums import expiry_checksum, name_checksum, row_checksum
from iii_state_file.failures import (
    READ_PATIENCE_SECONDS,
    DamagedRow,
    StoreBroken,
    damaged,
    patiently,
    verdict,
)
from iii_state_file.listings import Listing
from iii_state_file.past import HISTORY, PAST, REVISION_AT, past, revision_at, versions
from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import WITH_ENDS, connect
from iii_state_file.trimming import Bounds

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


_LIST_ENDS = f"""SELECT entries.position, key, revision, entries.checksum, value, at_ms, expiries.checksum
FROM entries INDEXED BY entries_by_scope {WITH_ENDS} WHERE scope = ? ORDER BY entries.position"""

_NOT_OVER = """ AND NOT EXISTS
(SELECT 1 FROM expiries WHERE expiries.position = entries.position AND at_ms <= ?)"""


def _left(query: str) -> str:
    """The query without keys that end at a moment, its next parameter, or before."""
    return query.replace("scope = ?", f"scope = ?{_NOT_OVER}")


_KEYS_LEFT, _KEYS_AGAIN_LEFT = _left(KEYS), _left(_KEYS_AGAIN)
_COUNT_LEFT, _COUNT_AGAIN_LEFT = _left(_COUNT), _left(_COUNT_AGAIN)
_PAGE_LEFT = _left(LIST).replace("scope = ?", "scope = ? AND position > ?") + " LIMIT ?"
_SCOPES_OVER = "SELECT DISTINCT scope FROM expiries CROSS JOIN entries USING (position) WHERE at_ms <= ?"
_SCOPE_LEFT = _left("SELECT 1 FROM entries INDEXED BY entries_by_scope WHERE scope = ?") + " LIMIT 1"

OVER = """SELECT entries.position, scope, key FROM expiries INDEXED BY expiries_by_moment
LEFT JOIN entries ON entries.position = expiries.position
WHERE at_ms <= ? ORDER BY at_ms LIMIT ?"""
_NEXT = "SELECT min(at_ms) FROM expiries WHERE at_ms > ?"

SCOPES = _jump("entries_by_scope")
_SCOPES_AGAIN = _jump("entries_by_key")


class ScannedScope(NamedTuple):
    """What LIST gives: the pairs, and when keys end that do."""

    pairs: list[tuple[str, bytes]]
    ends: dict[str, int]


class ScannedOver(NamedTuple):
    """What OVER gives: scope and key of what is over, and when the next key ends (now if there is more)."""

    names: list[tuple[str, str]]
    following: int | None


class Scan(NamedTuple):
    """One query over many rows and who asked: a listing that is made, or the one caller."""

    asker: Listing | asyncio.Future[Any]
    query: str
    scope: str
    after: int = 0
    """The position before a page; of the past, its revision or moment."""
    limit: int = 0
    over_since: int = 0
    """Leave out what ends at this moment or before; 0: nothing is over."""
    key: str = ""
    keep: int = 0
    """How many versions of the key are shown."""
    behind: tuple[str, str] | None = None
    """The name before a page of the past."""


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
        self.with_ends = False
        """True as soon as a key may have an end."""
        self.with_history = False
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
                rows = patiently(partial(self._run, scan), self._ending, seconds=READ_PATIENCE_SECONDS)
            except Exception as error:
                failure = verdict(error)
                if isinstance(failure, StoreBroken):
                    self._failed(failure)
                    return
                self._found(scan.asker, failure)
            else:
                self._found(scan.asker, rows)

    def _run(self, scan: Scan) -> Any:
        # Both halves of a check see one moment.
        self._connection.execute("BEGIN")
        try:
            return _SCANS[scan.query](self, scan)
        finally:
            self._connection.execute("COMMIT")

    def _scopes(self, scan: Scan) -> list[str]:
        run = self._connection.execute
        scopes = [scope for (scope,) in run(SCOPES).fetchall()]
        if scopes != [scope for (scope,) in run(_SCOPES_AGAIN).fetchall()]:
            raise damaged("its indexes hold different scopes")
        if scan.over_since:
            now = scan.over_since
            some = [scope for (scope,) in run(_SCOPES_OVER, (now,)).fetchall()]
            none = {scope for scope in some if run(_SCOPE_LEFT, (scope, now)).fetchone() is None}
            scopes = [scope for scope in scopes if scope not in none]
        return scopes

    def _keys(self, scan: Scan) -> list[str]:
        # No value is read, so the keys of an index prove those of the rows.
        keys = [key for (key,) in self._left(KEYS, _KEYS_LEFT, scan).fetchall()]
        again = {key for (key,) in self._left(_KEYS_AGAIN, _KEYS_AGAIN_LEFT, scan).fetchall()}
        if len(again) != len(keys) or not again.issuperset(keys):
            raise damaged(f"its indexes hold different keys of scope {scan.scope!r}")
        if len(set(keys)) < len(keys):
            raise damaged(f"a key of scope {scan.scope!r} is there twice")
        return keys

    def _page(self, scan: Scan) -> Page:
        # One more than asked for: whether there is another page.
        if scan.over_since:
            asked = (scan.scope, scan.after, scan.over_since, scan.limit + 1)
            rows = self._connection.execute(_PAGE_LEFT, asked).fetchall()
        else:
            rows = self._connection.execute(PAGE, (scan.scope, scan.after, scan.limit + 1)).fetchall()
        count = self._left(_COUNT_AGAIN, _COUNT_AGAIN_LEFT, scan).fetchone()[0]
        self._check_count(scan, count)
        shown = rows[: scan.limit]
        after = str(shown[-1][0]) if len(rows) > scan.limit else None
        return Page(_checked_pairs(scan.scope, shown), after, count)

    def _list(self, scan: Scan) -> ScannedScope:
        run = self._connection.execute
        rows = run(_LIST_ENDS if self.with_ends else LIST, (scan.scope,)).fetchall()
        self._check_count(scan, len(rows))
        ends: dict[str, int] = {}
        if self.with_ends:
            for position, key, _, _, _, at_ms, checksum in rows:
                if at_ms is not None:
                    if expiry_checksum(position, at_ms) != checksum:
                        raise DamagedRow(scan.scope, key)
                    ends[key] = at_ms
            rows = [row[:5] for row in rows]
        return ScannedScope(_checked_pairs(scan.scope, rows), ends)

    def _over(self, scan: Scan) -> ScannedOver:
        run = self._connection.execute
        rows = run(OVER, (scan.over_since, scan.limit)).fetchall()
        if any(position is None for position, _, _ in rows):
            raise damaged("a key that is to end is not there")
        names = [(scope, key) for _, scope, key in rows]
        if len(names) == scan.limit:
            return ScannedOver(names, scan.over_since)
        return ScannedOver(names, run(_NEXT, (scan.over_since,)).fetchone()[0])

    def _history(self, scan: Scan) -> list[Version]:
        name = (scan.scope, scan.key)
        return versions(self._connection, name, scan.after, scan.limit, Bounds(scan.keep, scan.over_since))

    def _past(self, scan: Scan) -> PastPage:
        return past(self._connection, scan.after, scan.behind, scan.limit)

    def _revision_at(self, scan: Scan) -> int:
        return revision_at(self._connection, scan.after)

    def _left(self, query: str, left: str, scan: Scan) -> sqlite3.Cursor:
        """The query for the scope, without what is over if something is."""
        if scan.over_since:
            return self._connection.execute(left, (scan.scope, scan.over_since))
        return self._connection.execute(query, (scan.scope,))

    def _check_count(self, scan: Scan, count: int) -> None:
        if scan.query is LIST:
            scan = scan._replace(over_since=0)
        if count != self._left(_COUNT, _COUNT_LEFT, scan).fetchone()[0]:
            raise damaged(f"its indexes hold different keys of scope {scan.scope!r}")


_SCANS: Mapping[str, Callable[[ScanReader, Scan], Any]] = {
    SCOPES: ScanReader._scopes,
    KEYS: ScanReader._keys,
    PAGE: ScanReader._page,
    LIST: ScanReader._list,
    OVER: ScanReader._over,
    HISTORY: ScanReader._history,
    PAST: ScanReader._past,
    REVISION_AT: ScanReader._revision_at,
}


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
