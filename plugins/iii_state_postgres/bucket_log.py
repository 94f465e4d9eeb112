"""BucketLog: the log of changes of some buckets, in which followers stand at one revision of each.

Writers of a bucket wait for one another until they have committed, so its revisions appear in their order and
without a gap: what is behind a position is complete, and a gap can only be what was deleted.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from iii_skill.values import Change

from .config import PostgresConfig
from .layout import BUCKETS, channel_of, name_of, private_bucket
from .session import Session
from .statements import Statements

log = logging.getLogger(__name__)

MOST = 250
"""Changes of each bucket that are read together."""

Position: TypeAlias = tuple[int, ...]
"""The last revision that was read of each bucket."""


class BucketLog:
    """Reads what comes after a position; other scopes than those that begin with `prefix` are left out."""

    def __init__(
        self,
        config: PostgresConfig,
        statements: Statements,
        server: str,
        *,
        buckets: Sequence[int] = BUCKETS,
        prefix: str = "",
    ) -> None:
        self.timeout = config.timeout
        self._statements = statements
        self._server = server
        self._buckets = list(buckets)
        self._places = {bucket: place for place, bucket in enumerate(buckets)}
        self._prefix = prefix
        self._channel = channel_of(config.schema, buckets[0])
        self._readers: weakref.WeakSet[Session] = weakref.WeakSet()

    @classmethod
    def below(cls, config: PostgresConfig, statements: Statements, server: str, prefix: str) -> BucketLog:
        """That of the private scopes that begin with `prefix`, which names their owner."""
        return cls(config, statements, server, buckets=(private_bucket(prefix),), prefix=prefix)

    async def newest(self, connection: Session) -> Position:
        return tuple(
            revision for (revision,) in await connection.fetch(self._statements.newest, self._buckets)
        )

    async def changes_after(
        self, connection: Session, position: Position
    ) -> tuple[Sequence[Change], Position]:
        self._readers.add(connection)
        # Before it looks: what is heard of in the meantime may not be in what it sees.
        connection.listen_anew()
        rows = await connection.fetch(self._statements.after, self._buckets, list(position), MOST)
        reached = list(position)
        changes: list[Change] = []
        for bucket, revision, raw_scope, raw_key, old, new, _, _ in rows:
            place = self._places[bucket]
            if revision != reached[place] + 1:
                log.warning(
                    "%s: changes were deleted from the log before this host had read them; keep more "
                    "(changes_kept).",
                    self._server,
                )
            reached[place] = revision
            # Read past all, shown those of the prefix: several owners share a bucket of private scopes.
            scope = name_of(raw_scope)
            if scope.startswith(self._prefix):
                changes.append(Change(scope, name_of(raw_key), old, new, revision))
        return changes, tuple(reached)

    def wake(self, buckets: Iterable[int]) -> None:
        """This host has written to these buckets."""
        if self._readers and not self._places.keys().isdisjoint(buckets):
            for session in self._readers:
                session.wake()

    async def changed(self, connection: Session) -> None:
        await connection.news(self._channel)
