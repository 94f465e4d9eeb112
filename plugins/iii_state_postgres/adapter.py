"""PostgresAdapter: state in PostgreSQL, durable and shared by many hosts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import ClassVar, TypeAlias
from urllib.parse import urlsplit

from iii_skill.adapter import Health, Page
from iii_skill.adapters.shared import Key, Outcome, Overtaken, SharedAdapter, Swap, Written
from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import Change

from .batches import Batch
from .config import PostgresConfig
from .layout import BUCKETS, indexed, name_of, raw_name
from .server_errors import TryAgain, UnknownWriter
from .session import Session, lost_errors
from .statements import Statements
from .trimmer import Trimmer

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 8

Position: TypeAlias = tuple[int, ...]
"""The last revision that was read of each bucket."""


class PostgresAdapter(SharedAdapter[Session, Position]):
    """Keys in one table, every change also in a log that all hosts read, one transaction for each batch.

    An acknowledged write is on the server's disk, and at its synchronous standbys if it has some. Reads
    always ask the server.
    """

    name: ClassVar[str] = "postgres"
    config_type = PostgresConfig
    config: PostgresConfig

    def __init__(self) -> None:
        super().__init__()
        self._writer_id: int | None = None
        self._fence = 0
        self._batch = 0
        self._trimmer: Trimmer | None = None

    async def open(self, config: PostgresConfig) -> None:
        """Connect. A server that is away is logged and tried again; one that refuses us is StoreRefused."""
        self._url = config.database_url or os.environ.get("DATABASE_URL", "")
        if not self._url:
            raise StoreRefused(
                "Set database_url (--database-url, or DATABASE_URL): postgresql://user@host/name."
            )
        self.server = _label(self._url)
        self.lost = lost_errors()
        self._statements = Statements.of(config.schema)
        self._trimmer = Trimmer(config, self._statements, self._scan)
        await super().open(config)

    async def close(self) -> None:
        """Finish what is on its way unless the server is silent, then disconnect; `changes()` end."""
        if self._trimmer is not None:
            await self._trimmer.close()
        await super().close()

    async def connect(self) -> Session:
        return await Session.connect(self.config, self._url, self.server)

    async def disconnect(self, connection: Session) -> None:
        await connection.close()

    async def read(self, connection: Session, keys: Sequence[Key]) -> Sequence[bytes | None]:
        names = [(indexed(raw_name(scope))[0], indexed(raw_name(key))[0]) for scope, key in keys]
        rows = await connection.fetch(
            self._statements.read, [scope for scope, _ in names], [key for _, key in names]
        )
        return [value for (value,) in rows]

    async def write(self, connection: Session, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        batch = Batch.of(swaps)
        for attempt in range(MOST_ATTEMPTS):
            if self._writer_id is None:
                ((self._writer_id,),) = await connection.fetch(self._statements.register)
                self._fence = 0
            self._batch += 1
            try:
                rows = await connection.fetch(
                    self._statements.write, self._writer_id, self._fence, self._batch, *batch
                )
            except UnknownWriter:
                # Somebody deleted its row.
                self._writer_id = None
                if attempt == MOST_ATTEMPTS - 1:
                    raise
            except TryAgain:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
            else:
                assert self._trimmer is not None
                self._trimmer.wrote(swaps)
                return [_outcome(swap, row) for swap, row in zip(swaps, rows, strict=True)]
        raise AssertionError("the last attempt raises")

    async def written(self, connection: Session, swaps: Sequence[Swap]) -> Sequence[Outcome] | None:
        """Raise the fence, so that the batch cannot be done any more, and look whether it was."""
        if self._writer_id is None:
            # It was lost before the batch was sent.
            return None
        rows = await connection.fetch(self._statements.fence, self._writer_id)
        if not rows:
            # Somebody deleted its row: what became of the batch cannot be known.
            self._writer_id = None
            return await super().written(connection, swaps)
        ((self._fence, batch, buckets, firsts, lasts),) = rows
        if batch != self._batch:
            return None
        made = await connection.fetch(self._statements.made, buckets, firsts, lasts)
        revisions: dict[tuple[bytes, bytes], list[tuple[int, bytes | None]]] = {}
        for scope, key, revision, old in made:
            revisions.setdefault((scope, key), []).append((revision, old))
        keys = [(indexed(raw_name(swap.scope))[0], indexed(raw_name(swap.key))[0]) for swap in swaps]
        if len(made) != sum(last - first + 1 for first, last in zip(firsts, lasts, strict=True)):
            # The log was cut in between.
            return await super().written(connection, swaps)
        held = await self.read(connection, [(swap.scope, swap.key) for swap in swaps])
        return [
            Written([revision for revision, _ in revisions[key]], revisions[key][0][1])
            if key in revisions
            else Overtaken(value)
            for key, value in zip(keys, held, strict=True)
        ]

    async def read_scope(self, connection: Session, scope: str) -> Sequence[tuple[str, bytes]]:
        rows = await connection.fetch(self._statements.scope, indexed(raw_name(scope))[0])
        return [(name_of(key), value) for key, value in rows]

    async def read_keys(self, connection: Session, scope: str) -> Sequence[str]:
        rows = await connection.fetch(self._statements.keys, indexed(raw_name(scope))[0])
        return [name_of(key) for (key,) in rows]

    async def read_scopes(self, connection: Session) -> Sequence[str]:
        return [name_of(scope) for (scope,) in await connection.fetch(self._statements.scopes)]

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        """The next pairs by their places; a value that is no JSON is left out, as in `list`."""
        place = int(after) if after is not None else -1
        arguments = (indexed(raw_name(scope))[0], place, limit)
        rows = await self._scan(lambda connection: connection.fetch(self._statements.page, *arguments))
        if not rows:
            return Page((), None, 0 if after is None else len(await self.keys(scope)))
        more = rows[limit - 1][2] if len(rows) > limit else None
        pairs = self.sound(scope, [(name_of(key), value) for key, value, _, _ in rows[:limit]])
        return Page(pairs, None if more is None else str(more), rows[0][3])

    async def health(self) -> Health:
        """What the server promises, and how much there is."""
        try:
            ((version, commit, pages, standbys, entries, changes),) = await self._scan(
                lambda connection: connection.fetch(self._statements.health)
            )
        except AdapterError as error:
            return Health(ok=False, message=error.message)
        warnings = [] if pages == "on" else [f"{self.server}: full_page_writes is off; set it to on."]
        return Health(
            warnings=warnings,
            facts={
                "server": self.server,
                "version": version,
                "synchronous_commit": commit
                if commit in ("on", "remote_apply")
                else f"on (default {commit})",
                "synchronous_standbys": standbys or "none",
                "bytes_of_entries": entries,
                "bytes_of_changes": changes,
            },
        )

    async def maintain(self) -> None:
        """Cut the log of changes everywhere, and forget hosts that have not written for a week."""
        assert self._trimmer is not None
        await self._scan(lambda connection: connection.fetch(self._statements.forget_writers))
        await self._trimmer.trim_all()

    async def erase(self) -> None:
        """Drop the schema."""
        await self._scan(lambda connection: connection.fetch(self._statements.erase))

    async def newest(self, connection: Session) -> Position:
        return tuple(revision for (revision,) in await connection.fetch(self._statements.newest))

    async def changes_after(
        self, connection: Session, position: Position
    ) -> tuple[Sequence[Change], Position]:
        rows = await connection.fetch(self._statements.after, list(range(BUCKETS)), list(position))
        reached = list(position)
        changes: list[Change] = []
        for bucket, revision, scope, key, old, new in rows:
            if revision != reached[bucket] + 1:
                self._tell_gap()
            reached[bucket] = revision
            changes.append(Change(name_of(scope), name_of(key), old, new, revision))
        return changes, tuple(reached)

    async def changed(self, connection: Session) -> None:
        await connection.news()

    def _tell_gap(self) -> None:
        log.warning(
            "%s: changes were deleted from the log before this host had read them; keep more (changes_kept).",
            self.server,
        )


def _outcome(swap: Swap, row: tuple[bool, int | None, bytes | None]) -> Outcome:
    won, first, found = row
    if not won:
        return Overtaken(found)
    assert first is not None
    return Written(range(first, first + len(swap.values)), found)


def _label(url: str) -> str:
    """Host and port, never the password."""
    try:
        parts = urlsplit(url)
        where = parts.netloc.rpartition("@")[2] or "localhost"
    except ValueError as error:
        raise StoreRefused(f"database_url cannot be read: {error}.") from None
    return f"PostgreSQL at {where}"
