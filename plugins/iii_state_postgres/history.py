"""History: versions of keys, which are copied out of the log of changes before it is cut."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

from iii_skill.adapter import VERSIONS_BYTES, HistorySettings, PastKey, PastPage, Version
from iii_skill.errors import CallerError
from iii_skill.values import MAX_REVISION, PRIVATE_SCOPES

from .layout import indexed, name_of, place_of, raw_name
from .session import OnSession, Session
from .statements import Statements

CHANGES = 1_000
"""Changes that one transaction copies."""
BYTES = 4_000_000
"""Bytes of values after which it copies no more."""
ROUNDS = 100_000
FORGOTTEN = 1_000
"""Versions that one transaction looks at, to drop those before them."""

_PRIVATE = raw_name(PRIVATE_SCOPES)
_PUBLIC = _PRIVATE[:-1] + bytes([_PRIVATE[-1] + 1])
"""The first name behind all those that begin like private ones."""
_PLACE = re.compile(r"((?:[0-9a-f]{2})*)\.((?:[0-9a-f]{2})*)\Z")


class History:
    """What is copied, read and dropped; each call is some short transactions."""

    def __init__(
        self, settings: HistorySettings, statements: Statements, scan: OnSession, now_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._statements = statements
        self._scan = scan
        self._now_ms = now_ms

    async def note(self, bucket: int) -> None:
        """Copy what was changed in a bucket until now."""
        bounds = (bucket, self._settings.keep, CHANGES, BYTES, self._now_ms())
        for _ in range(ROUNDS):
            ((more,),) = await self._fetch(self._statements.note, *bounds)
            if not more:
                return

    async def note_all(self) -> None:
        """Copy what was changed until now."""
        for (bucket,) in await self._fetch(self._statements.behind):
            await self.note(bucket)

    async def forget(self) -> None:
        """Drop what was replaced too long ago."""
        for _ in range(ROUNDS):
            ((more,),) = await self._fetch(self._statements.forget_versions, self._since_ms, FORGOTTEN)
            if not more:
                return

    async def is_over(self, scope: str, key: str) -> bool:
        """Whether the key is there still although its end came."""
        names = place_of(scope).scope, indexed(raw_name(key))[0]
        return bool(await self._fetch(self._statements.over, *names, self._now_ms()))

    async def of(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The versions of a key, the newest first."""
        if scope.startswith(PRIVATE_SCOPES):
            return []
        place, name = place_of(scope), indexed(raw_name(key))[0]
        names = (place.bucket, place.scope, name)
        below = None if before is None else min(before, MAX_REVISION)
        rows = await self._fetch(
            self._statements.versions,
            *names,
            *(below, limit, self._settings.keep, self._since_ms, VERSIONS_BYTES),
        )
        return [Version(revision, at_ms, value) for revision, at_ms, value in rows]

    async def moment_at(self, at_ms: int) -> int:
        """The last commit up to that time; those that were under way are waited for."""
        ((settled,),) = await self._fetch(self._statements.settle)
        await self.note_all()
        ((found,),) = await self._fetch(self._statements.moment_at, at_ms, settled)
        return int(found)

    async def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        """Keys in the order of their names: one that comes or goes meanwhile keeps its place."""
        scope, key = (b"", b"") if after is None else _place_after(after)
        # So that little is left of what has to be looked for in the log.
        await self.note_all()
        rows = await self._fetch(
            self._statements.past, min(moment, MAX_REVISION), scope, key, limit, _PRIVATE, _PUBLIC
        )
        whole_from, whole_from_ms = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        keys = [
            PastKey(name_of(scope), name_of(key), value, known_from)
            for _, _, scope, key, value, known_from, _ in found[:limit]
        ]
        following = None
        if found and (len(found) > limit or found[-1][-1]):
            last_scope, last_key = found[min(limit, len(found)) - 1][:2]
            following = f"{last_scope.hex()}.{last_key.hex()}"
        return PastPage(keys, following, whole_from, whole_from_ms)

    @property
    def _since_ms(self) -> int:
        return self._now_ms() - self._settings.days_ms

    async def _fetch(self, statement: str, *arguments: object) -> Sequence[Any]:
        result: Sequence[Any] = await self._scan(functools.partial(_run, statement, arguments))
        return result


async def _run(statement: str, arguments: Sequence[object], session: Session) -> Sequence[Any]:
    return await session.fetch(statement, *arguments)


def _place_after(after: str) -> tuple[bytes, bytes]:
    """The first name behind that at which a page ended."""
    found = _PLACE.match(after)
    if found is None:
        raise CallerError("That is no place to go on from.", code="INVALID_CURSOR")
    return bytes.fromhex(found[1]), bytes.fromhex(found[2]) + b"\0"
