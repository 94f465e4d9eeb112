"""PostgresAdapter: state in PostgreSQL, durable and shared by many hosts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from iii_skill.adapter import (
    Deferred,
    Expiry,
    Health,
    LogPage,
    Page,
    PastPage,
    Version,
    Write,
    no_history,
)
from iii_skill.adapters.shared import FollowedChanges, Key, Outcome, Overtaken, SharedAdapter, Swap, Written
from iii_skill.errors import AdapterError, AdapterTimeout, StoreRefused
from iii_skill.values import KEEP, Change, Keep

from . import cursors
from .batches import Batch, ahead_us
from .bucket_log import BucketLog, Position
from .config import PostgresConfig
from .current_values import CurrentValues
from .given_ends import GivenEnds
from .history import History
from .key_reads import KeyReads
from .layout import indexed, name_of, place_of, raw_name
from .server_errors import TryAgain, UnknownWriter
from .session import Session, lost_errors
from .statements import Statements
from .together import swap_of, write_together
from .trimmer import Trimmer
from .wake_ups import WakeUps

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 8
SWEPT = 250
"""Keys of each bucket that end in one call."""
MOST_SWEEPS = 10_000
"""For the end of one key: those that came before it are made first."""


class PostgresAdapter(SharedAdapter[Session, Position]):
    """Keys in one table, every change also in a log that all hosts read, one transaction for each batch.

    An acknowledged write is on the server's disk, and at its synchronous standbys if it has some. Reads
    always ask the server, for the values or whether those in memory still are the current ones.
    """

    name: ClassVar[str] = "postgres"
    together: ClassVar[bool] = True
    maintenance_seconds: ClassVar[float | None] = 60.0
    config_type = PostgresConfig
    logged: ClassVar[bool] = True
    log_setting: ClassVar[str | None] = "changes_kept"
    expires: ClassVar[bool] = True
    historical: ClassVar[bool] = True
    config: PostgresConfig

    def __init__(self) -> None:
        super().__init__()
        self._writer_id: int | None = None
        self._fence = 0
        self._batch = 0
        self._trimmer: Trimmer | None = None
        self._history: History | None = None
        self._current = CurrentValues()
        self._ends: GivenEnds | None = None
        self._wake_ups: WakeUps | None = None

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
        self._key_reads = KeyReads(self._statements, self._current, self.clock)
        self._log = BucketLog(config, self._statements, self.server)
        if config.history is not None:
            self._history = History(config.history, self._statements, self.use_scanner, self.clock.now_ms)
        self._trimmer = Trimmer(config, self._statements, self.use_scanner, self._history)
        self._ends = GivenEnds(self._give)
        self._wake_ups = WakeUps(config.schema, self._notify)
        self._wake_ups.logs.add(self._log)
        await super().open(config)

    async def close(self) -> None:
        """Finish what is on its way unless the server is silent, then disconnect; `changes()` end."""
        if self._trimmer is not None:
            await self._trimmer.close()
        await super().close()
        if self._ends is not None:
            await self._ends.close()

    async def connect(self) -> Session:
        # Another server may have taken over.
        self._current.forget()
        return await Session.connect(self.config, self._url, self.server)

    async def disconnect(self, connection: Session) -> None:
        await connection.close()

    def read(self, connection: Session, keys: Sequence[Key]) -> Coroutine[Any, Any, Sequence[bytes | None]]:
        return self._key_reads.of(connection, keys)

    async def write(self, connection: Session, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        batch = Batch(swaps, self.clock)
        try:
            row = await self._write_batch(connection, batch)
        except BaseException:
            # Whether it happens is not known before it is asked for.
            self._current.writer = None
            self._current.forget()
            raise
        self._wrote(swaps, batch.ids)
        self._current.writer = self._writer_id
        return batch.outcomes(row, self._current)

    async def _write_batch(self, connection: Session, batch: Batch) -> Any:
        self._batch += 1
        (row,) = await self._as_writer(connection, self._statements.write, self._batch, *batch.arrays)
        return row

    def _wrote(self, swaps: Sequence[Swap], buckets: Collection[int]) -> None:
        assert self._trimmer is not None
        assert self._wake_ups is not None
        self._trimmer.wrote(swaps)
        self._wake_ups.wrote(buckets)

    async def _notify(self, channels: list[str]) -> None:
        await self.use_reader(lambda session: session.fetch(self._statements.notify, channels))

    async def _disconnected(self) -> None:
        if self._wake_ups is not None:
            await self._wake_ups.close()
        await super()._disconnected()

    async def _as_writer(self, connection: Session, statement: str, *arguments: object) -> Sequence[Any]:
        """Run a statement of this writer until it was not in the way of another one."""
        for attempt in range(MOST_ATTEMPTS):
            if self._writer_id is None:
                ((self._writer_id,),) = await connection.fetch(self._statements.register)
                self._fence = 0
            try:
                return await connection.fetch(statement, self._writer_id, self._fence, *arguments)
            except UnknownWriter:
                # Somebody deleted its row.
                self._writer_id = None
                if attempt == MOST_ATTEMPTS - 1:
                    raise
            except TryAgain:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.005 * 2**attempt)
        raise AssertionError("the last attempt raises")

    async def written(self, connection: Session, swaps: Sequence[Swap]) -> Sequence[Outcome] | None:
        """Raise the fence, so that the batch cannot be done any more, and look whether it was."""
        if self._writer_id is None:
            # It was lost before the batch was sent.
            return None
        rows = await connection.fetch(self._statements.fence, self._writer_id)
        self._current.forget()
        if not rows:
            # Somebody deleted its row: what became of the batch cannot be known.
            self._writer_id = None
            return await super().written(connection, swaps)
        ((self._fence, batch, buckets, firsts, lasts),) = rows
        if batch != self._batch:
            return None
        assert self._wake_ups is not None
        self._wake_ups.wrote(buckets)
        made = await connection.fetch(self._statements.made, buckets, firsts, lasts)
        revisions: dict[tuple[bytes, bytes], list[tuple[int, bytes | None]]] = {}
        for scope, key, revision, old in made:
            revisions.setdefault((scope, key), []).append((revision, old))
        keys = [(place_of(swap.scope).scope, indexed(raw_name(swap.key))[0]) for swap in swaps]
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

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Deferred[Expiry]:
        """Give the key an end, take it away, or tell it; in order with the writes of the key."""
        return self.alone(scope, key, lambda: self._expire(scope, key, at_ms))

    async def _expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Expiry:
        if at_ms is KEEP:
            names = place_of(scope).scope, indexed(raw_name(key))[0]
            rows = await self.use_reader(
                lambda session: session.fetch(self._statements.end, *names, self.clock.now_ms())
            )
            return Expiry(True, rows[0][0]) if rows else Expiry(False)

        assert self._ends is not None
        return Expiry(True, at_ms) if await self._ends.give(scope, key, at_ms) else Expiry(False)

    async def _give(self, arrays: Sequence[object]) -> Sequence[int] | None:
        ((found,),) = await self.use_writer(
            lambda session: self._as_writer(session, self._statements.expire, *arrays, self.clock.now_ms())
        )
        return found  # type: ignore[no-any-return]

    async def sweep(self) -> int | None:
        """Delete what is over, some thousand keys at most; when the next one ends."""
        ((following,),) = await self.use_scanner(
            lambda session: session.fetch(
                self._statements.sweep, self.clock.now_ms(), SWEPT, ahead_us(self.clock)
            )
        )
        return following if following is None else int(following)

    async def write_together(self, writes: Sequence[Write]) -> int:
        """All writes in one transaction; other writers of the same buckets wait for it."""
        swaps = [swap_of(write) for write in writes]
        try:
            async with self.own_connection([(write.scope, write.key) for write in writes]) as session:
                made = await write_together(session, self._statements, swaps, self.clock)
        except self.lost as error:
            raise AdapterTimeout(
                f"{self.server} was lost before it answered ({error}); all of the writes were made or none.",
                fate_told=True,
            ) from None
        self._wrote(swaps, {place_of(swap.scope).bucket for swap in swaps})
        return made

    async def read_scope(self, connection: Session, scope: str) -> Sequence[tuple[str, bytes]]:
        rows = await connection.fetch(self._statements.scope, place_of(scope).scope, self.clock.now_ms())
        return [(name_of(key), value) for key, value in rows]

    async def read_keys(self, connection: Session, scope: str) -> Sequence[str]:
        rows = await connection.fetch(self._statements.keys, place_of(scope).scope, self.clock.now_ms())
        return [name_of(key) for (key,) in rows]

    async def read_scopes(self, connection: Session) -> Sequence[str]:
        return [
            name_of(scope)
            for (scope,) in await connection.fetch(self._statements.scopes, self.clock.now_ms())
        ]

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        """The next pairs by their places; a value that is no JSON is left out, as in `list`."""
        place = int(after) if after is not None else -1
        arguments = (place_of(scope).scope, place, limit, self.clock.now_ms())
        rows = await self.use_scanner(lambda connection: connection.fetch(self._statements.page, *arguments))
        if not rows:
            return Page((), None, 0 if after is None else len(await self.keys(scope)))
        more = rows[limit - 1][2] if len(rows) > limit else None
        pairs = self.sound(scope, [(name_of(key), value) for key, value, _, _ in rows[:limit]])
        return Page(pairs, None if more is None else str(more), rows[0][3])

    async def health(self) -> Health:
        """What the server promises, and how much there is."""
        try:
            (
                (version, commit, pages, standbys, entries, changes, following, oldest),
            ) = await self.use_scanner(lambda connection: connection.fetch(self._statements.health))
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
                "standbys_connected": following,
                "oldest_write_transaction_s": oldest,
                "bytes_of_entries": entries,
                "bytes_of_changes": changes,
            },
        )

    async def maintain(self) -> None:
        """Cut the log of changes everywhere, drop old versions, and forget hosts silent for a week."""
        assert self._trimmer is not None
        await self.use_scanner(lambda connection: connection.fetch(self._statements.forget_writers))
        await self._trimmer.trim_all()
        if self._history is not None:
            await self._history.forget()

    async def erase(self) -> None:
        """Drop the schema."""
        await self.use_scanner(lambda connection: connection.fetch(self._statements.erase))

    async def log_page(self, after: str | None, limit: int) -> LogPage:
        """The next changes of all buckets; a cursor holds one revision of each."""
        return await self.use_scanner(lambda session: cursors.page(session, self._statements, after, limit))

    async def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The last versions of the key, the newest first."""
        kept = self._kept
        for _ in range(MOST_SWEEPS):
            if not await kept.is_over(scope, key):
                break
            await self.sweep()
        return await kept.of(scope, key, before, limit)

    async def moment_at(self, at_ms: int) -> int:
        """The last commit up to that time."""
        return await self._kept.moment_at(at_ms)

    async def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        """What keys held at a moment, in the order of their names."""
        return await self._kept.past(moment, after, limit)

    @property
    def _kept(self) -> History:
        if self._history is None:
            raise no_history(self.name)
        return self._history

    async def log_latest(self, after: str, count: int) -> tuple[int, str]:
        """The last changes by the order of their commits; those before them are counted, not read."""
        return await self.use_scanner(lambda session: cursors.latest(session, self._statements, after, count))

    def changes_below(self, prefix: str) -> FollowedChanges:
        """The changes of the private scopes that begin with `prefix`, which `changes()` leaves out."""
        below = BucketLog.below(self.config, self._statements, self.server, prefix)
        assert self._wake_ups is not None
        self._wake_ups.logs.add(below)
        return self.follow(below)

    async def newest(self, connection: Session) -> Position:
        return await self._log.newest(connection)

    async def changes_after(
        self, connection: Session, position: Position
    ) -> tuple[Sequence[Change], Position]:
        return await self._log.changes_after(connection, position)

    async def changed(self, connection: Session) -> None:
        await self._log.changed(connection)


def _label(url: str) -> str:
    """Host and port, never the password."""
    try:
        parts = urlsplit(url)
        where = parts.netloc.rpartition("@")[2] or "localhost"
    except ValueError as error:
        raise StoreRefused(f"database_url cannot be read: {error}.") from None
    return f"PostgreSQL at {where}"
