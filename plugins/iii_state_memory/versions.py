"""Versions: what keys held before, the last ones of each key."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence

from iii_skill.adapter import VERSIONS_BYTES, HistorySettings, PastKey, PastPage, Version
from iii_skill.errors import CallerError
from iii_skill.values import PRIVATE_SCOPES

_PAGE_BYTES = 8 * 1024 * 1024
_SLICE = 5_000
"""Versions that are looked at in one go: the event loop is not held for long."""


class _Kept:
    """The versions of one key, and what was before them."""

    __slots__ = ("before", "key", "place", "scope", "versions")

    def __init__(self, scope: str, key: str, place: int) -> None:
        self.scope = scope
        self.key = key
        self.place = place
        self.versions: deque[Version] = deque()
        self.before: Version | None = Version(0, 0, None)
        """What was there before the first version, as long as that was nothing; None: a value."""

    def drop_first(self) -> None:
        first = self.versions.popleft()
        self.before = first if first.value is None else None

    def at(self, revision: int) -> PastKey:
        """What the key held at a revision."""
        following: Version | None = None
        for version in reversed(self.versions):
            if version.revision <= revision:
                return PastKey(self.scope, self.key, version.value)
            following = version
        if following is None or (self.before is not None and self.before.revision <= revision):
            return PastKey(self.scope, self.key, None)
        return PastKey(self.scope, self.key, None, following.at_ms)


class Versions:
    """The last `keep` versions of every key, and of those what was not replaced more than `days` ago."""

    def __init__(self, settings: HistorySettings, now_ms: Callable[[], int]) -> None:
        self._keep = settings.keep
        self._span_ms = settings.days_ms
        self._now_ms = now_ms
        self._keys: dict[tuple[str, str], _Kept] = {}
        self._line: list[_Kept] = []
        """All of them by place."""
        self._place = 0
        self._whole_from = Version(0, now_ms(), None)
        """The last delete of which nothing is kept any more."""

    def note(self, scope: str, key: str, value: bytes | None, revision: int) -> None:
        """The key holds this from the revision on."""
        if scope.startswith(PRIVATE_SCOPES):
            return
        kept = self._keys.get((scope, key))
        if kept is None:
            self._place += 1
            kept = self._keys[scope, key] = _Kept(scope, key, self._place)
            self._line.append(kept)
        kept.versions.append(Version(revision, self._now_ms(), value))
        while len(kept.versions) > self._keep:
            kept.drop_first()

    def of(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The newest first."""
        kept = self._keys.get((scope, key))
        if kept is None:
            return []
        if self._is_forgotten(kept):
            return []
        self._drop_old(kept)
        found: list[Version] = []
        size = 0
        for version in reversed(kept.versions):
            if len(found) == limit or size >= VERSIONS_BYTES:
                break
            if before is None or version.revision < before:
                found.append(version)
                size += len(version.value or b"")
        return found

    async def revision_at(self, at_ms: int) -> int:
        """The last revision at that moment or before it."""
        found = self._whole_from.revision if self._whole_from.at_ms <= at_ms else 0
        steps = 0
        for kept in list(self._line):
            for version in reversed(kept.versions):
                steps += 1
                if version.at_ms <= at_ms:
                    found = max(found, version.revision)
                    break
            if steps >= _SLICE:
                steps = 0
                await asyncio.sleep(0)
        return found

    def past(self, revision: int, after: str | None, limit: int) -> PastPage:
        """What keys held at a revision."""
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 20):
            raise CallerError("That is no place to go on from.", code="INVALID_CURSOR")
        begin = 0 if after is None else bisect_right(self._line, int(after), key=_place)
        whole = self._whole_from
        keys: list[PastKey] = []
        size = steps = 0
        index = begin
        while index < len(self._line) and len(keys) < limit and steps < 4 * _SLICE:
            kept = self._line[index]
            steps += len(kept.versions)
            last = kept.versions[-1]
            found = kept.at(max(revision, whole.revision))
            if revision < whole.revision and not (last.value is not None and last.revision <= revision):
                known_from = whole.at_ms if found.known_from_ms is None else found.known_from_ms
                found = PastKey(kept.scope, kept.key, None, known_from)
            size += len(found.value or b"")
            if keys and size > _PAGE_BYTES:
                break
            keys.append(found)
            index += 1
        following = str(self._line[index - 1].place) if index < len(self._line) else None
        return PastPage(keys, following, whole.revision, whole.at_ms)

    def trim(self) -> None:
        """Drop what is too old."""
        gone = False
        for name, kept in list(self._keys.items()):
            if self._is_forgotten(kept):
                gone = True
                last = kept.versions[-1]
                if last.revision > self._whole_from.revision:
                    self._whole_from = last
                del self._keys[name]
            else:
                self._drop_old(kept)
        if gone:
            self._line = list(self._keys.values())

    def _is_forgotten(self, kept: _Kept) -> bool:
        """Deleted too long ago."""
        last = kept.versions[-1]
        return last.value is None and last.at_ms < self._now_ms() - self._span_ms

    def _drop_old(self, kept: _Kept) -> None:
        since = self._now_ms() - self._span_ms
        while len(kept.versions) > 1 and kept.versions[1].at_ms < since:
            kept.drop_first()


def _place(kept: _Kept) -> int:
    return kept.place
