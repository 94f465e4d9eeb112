"""Cursors into the log of all public buckets, for `log_page`: `<store>-<revision of each bucket>`."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from iii_skill.adapter import OLDEST, LoggedChange, LogPage
from iii_skill.errors import CallerError, CursorTooOld
from iii_skill.values import MAX_REVISION, Change

from .layout import BUCKETS, name_of
from .session import Session
from .statements import Statements

MOST = 1_000
"""Changes of each bucket that are read together."""

_CURSOR = re.compile(r"([0-9a-f]{1,16})-([0-9]{1,19}(?:\.[0-9]{1,19})*)\Z")


def text_of(store: str, revisions: Sequence[int]) -> str:
    """The cursor behind these revisions."""
    return f"{store}-{'.'.join(map(str, revisions))}"


def revisions_of(cursor: str, store: str) -> list[int]:
    """The revision of each bucket; CallerError for no cursor, CursorTooOld for one of another store."""
    found = _CURSOR.match(cursor)
    revisions = [] if found is None else [int(revision) for revision in found[2].split(".")]
    if found is None or len(revisions) != len(BUCKETS) or max(revisions) > MAX_REVISION:
        raise CallerError(f"{cursor[:80]!r} is no cursor of this log", code="INVALID_CURSOR")
    if found[1] != store:
        raise CursorTooOld(
            f"the cursor {cursor[:80]} is of another store; read the state again and go on from now"
        )
    return revisions


async def page(session: Session, statements: Statements, after: str | None, limit: int) -> LogPage:
    """The next changes of all buckets, in the order of their commits, those of a bucket as they were made."""
    buckets = list(BUCKETS)
    ((store,),) = await session.fetch(statements.store)
    # The ends come first: what is cut after that shows as a gap in the rows.
    ends = await session.fetch(statements.ends, buckets)
    newest = [revision for _, revision, _ in ends]
    first = [revision + 1 if oldest is None else oldest for _, revision, oldest in ends]
    oldest = text_of(store, [revision - 1 for revision in first])
    if after is None:
        return LogPage((), text_of(store, newest), oldest)
    reached = [revision - 1 for revision in first] if after == OLDEST else revisions_of(after, store)
    for bucket in buckets:
        if reached[bucket] > newest[bucket]:
            raise _forgotten(after, "was given by a store that has lost changes since", store, newest)
        if reached[bucket] < first[bucket] - 1:
            raise _forgotten(after, "is behind what the store keeps", store, newest)
    rows = await session.fetch(statements.after, buckets, list(reached), min(limit, MOST))
    told: list[LoggedChange] = []
    for bucket, revision, scope, key, old, new, at_ms, _ in _merged(rows):
        if revision != reached[bucket] + 1 and after != OLDEST:
            raise _forgotten(after, "is behind what the store keeps", store, newest)
        reached[bucket] = revision
        change = Change(name_of(scope), name_of(key), old, new, revision)
        told.append(LoggedChange(change, text_of(store, reached), at_ms))
        if len(told) == limit:
            break
    return LogPage(told, text_of(store, reached), oldest)


async def latest(session: Session, statements: Statements, after: str, count: int) -> tuple[int, str]:
    """How many changes to pass over so that `count` are left, and where that is."""
    buckets = list(BUCKETS)
    ((store,),) = await session.fetch(statements.store)
    newest = [revision for (revision,) in await session.fetch(statements.newest, buckets)]
    reached = revisions_of(after, store)
    if any(here > there for here, there in zip(reached, newest, strict=True)):
        raise _forgotten(after, "was given by a store that has lost changes since", store, newest)
    if sum(newest) - sum(reached) <= count:
        return 0, after
    firsts = dict(await session.fetch(statements.latest, buckets, reached, count))
    # Where there is none of them, all that is known of is passed over.
    begin = [firsts.get(bucket, newest[bucket] + 1) - 1 for bucket in buckets]
    return sum(begin) - sum(reached), text_of(store, begin)


def _merged(rows: Sequence[Any]) -> Iterator[Any]:
    """The rows of all buckets in the order of their commits; a layout without moments had only times."""
    buckets: dict[int, list[Any]] = {}
    for row in rows:
        buckets.setdefault(row[0], []).append(row)
    return heapq.merge(*buckets.values(), key=itemgetter(7, 6))


def _forgotten(cursor: str, why: str, store: str, newest: Sequence[int]) -> CursorTooOld:
    now = text_of(store, newest)
    return CursorTooOld(f"the cursor {cursor[:200]} {why}; read the state again and go on from {now}")
