"""What keys held before, and at a past revision: out of their rows and the chains of their versions."""

from __future__ import annotations

import sqlite3

import msgspec

from iii_skill.adapter import VERSIONS_BYTES, PastKey, PastPage, Version
from iii_skill.errors import CallerError
from iii_skill.values import MAX_REVISION, PRIVATE_SCOPES
from iii_state_file.failures import damaged
from iii_state_file.packs import NEWEST, Pack, read_pack
from iii_state_file.trimming import Bounds
from iii_state_file.walks import Packs

HISTORY, PAST, REVISION_AT = "history", "past", "revision_at"

_LIVE = """SELECT scope, key FROM entries INDEXED BY entries_by_key
WHERE (scope, key) > (?, ?) ORDER BY scope, key LIMIT ?"""
_GONE = """SELECT scope, key FROM gone INDEXED BY gone_by_key
WHERE (scope, key) > (?, ?) ORDER BY scope, key LIMIT ?"""
_FOLLOWING = """SELECT last, at_ms, checksum, heads FROM packs WHERE last BETWEEN ? AND ?
ORDER BY last LIMIT 1"""
_COUNTS = [
    (
        f"SELECT count(*) FROM {table} INDEXED BY {table}_by_key",
        f"SELECT count(*) FROM {table} INDEXED BY {table}_again",
    )
    for table in ("entries", "gone")
]

BEYOND = MAX_REVISION + 1
"""Above every revision."""
_PAGE_BYTES = 8 * 1024 * 1024
_PAGE_STEPS = 20_000
"""Versions that are passed for one page, and those of the key that goes beyond it."""


def versions(
    connection: sqlite3.Connection, name: tuple[str, str], before: int, limit: int, bounds: Bounds
) -> list[Version]:
    """Versions of a key that are shown, the newest first, of revisions below `before`."""
    found: list[Version] = []
    if name[0].startswith(PRIVATE_SCOPES):
        return found
    walk = Packs(connection).walk(*name)
    size, replaced = 0, None
    for _ in range(bounds.keep):
        place = walk.place
        if place is None:
            break
        at_ms = place.pack.at_ms
        if replaced is None:
            # Gone since, and nothing came after it.
            if place.is_gone and at_ms < bounds.since_ms:
                break
        elif replaced < bounds.since_ms:
            break
        replaced = at_ms
        if place.revision < before:
            if len(found) == limit or size >= VERSIONS_BYTES:
                break
            value = walk.value()
            found.append(Version(place.revision, at_ms, value))
            size += len(value or b"")
        walk.back()
    return found


def after_of(after: str | None) -> tuple[str, str] | None:
    """The name behind which a page begins."""
    if after is None:
        return None
    try:
        return msgspec.json.decode(after, type=tuple[str, str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise CallerError("That is no place to go on from.", code="INVALID_CURSOR") from None


def revision_at(connection: sqlite3.Connection, at_ms: int) -> int:
    """The last revision that was noted at that moment or before it.

    Where a clock was put back, it is a revision at which the clock went past that moment, a late one.
    """
    run = connection.execute
    floor = Packs(connection).floor
    found = floor.revision if floor.at_ms <= at_ms else 0
    newest = high = run(NEWEST).fetchone()[0]

    def following(low: int, high: int) -> Pack | None:
        row = run(_FOLLOWING, (low, high)).fetchone()
        return None if row is None else read_pack(row)

    # From the newest one back in steps that grow, then into the last step.
    low = step = 1
    while step <= newest:
        pack = following(newest + 1 - step, high)
        if pack is not None and pack.at_ms <= at_ms:
            low = pack.last
            break
        high = newest - step
        step *= 2
    while low <= high:
        middle = (low + high) // 2
        pack = following(middle, high)
        if pack is None or pack.at_ms > at_ms:
            high = middle - 1
        else:
            found = max(found, pack.last)
            low = pack.last + 1
    return found


def past(
    connection: sqlite3.Connection, revision: int, after: tuple[str, str] | None, limit: int
) -> PastPage:
    """Keys in the order of their names: one that comes or goes meanwhile keeps its place."""
    run = connection.execute
    packs = Packs(connection)
    floor = packs.floor
    asked = (*(after or ("", "")), limit + 1)
    names: set[tuple[str, str]] = set()
    for query in (_LIVE, _GONE) if after is not None else (_first(_LIVE), _first(_GONE)):
        names.update(run(query, asked).fetchall())
    keys: list[PastKey] = []
    size = steps = looked = 0
    ordered = sorted(names)
    for name in ordered[:limit]:
        if name[0].startswith(PRIVATE_SCOPES):
            looked += 1
            continue
        if steps > _PAGE_STEPS:
            break
        key, passed = _at(packs, name, revision)
        size += len(key.value or b"")
        if keys and size > _PAGE_BYTES:
            break
        looked += 1
        keys.append(key)
        steps += passed
    if looked < len(ordered):
        following = msgspec.json.encode(ordered[looked - 1]).decode()
        return PastPage(keys, following, floor.revision, floor.at_ms)
    # No key is missing in the index that was followed.
    for counts in _COUNTS:
        if len({run(count).fetchone()[0] for count in counts}) > 1:
            raise damaged("its indexes hold different keys")
    return PastPage(keys, None, floor.revision, floor.at_ms)


def _at(packs: Packs, name: tuple[str, str], revision: int) -> tuple[PastKey, int]:
    """What a key held, and how many versions were passed on the way."""
    floor = packs.floor
    walk = packs.walk(*name)
    alive = walk.current is not None
    if alive and walk.head <= revision:
        return PastKey(*name, walk.current), 1
    # Before the floor chains prove nothing.
    moment = max(revision, floor.revision)
    if alive and walk.head <= moment:
        return PastKey(*name, None, floor.at_ms), 1
    if walk.place is None:
        raise damaged(f"a version of key {name[1]!r} in scope {name[0]!r} is missing")
    depth = 1
    last = walk.place
    while last.revision > moment:
        first = last.made, last.previous, last.pack.at_ms
        before = walk.back()
        if before is None:
            # The first one that is kept. If it made the key, there was none since what came before it.
            made, previous, at_ms = first
            if not made or previous > moment:
                return PastKey(*name, None, at_ms), depth
            break
        last = before
        depth += 1
    value = None if walk.place is None else walk.value()
    if revision < moment:
        return PastKey(*name, None, floor.at_ms), depth
    return PastKey(*name, value), depth


def _first(query: str) -> str:
    return query.replace(") > (", ") >= (")
