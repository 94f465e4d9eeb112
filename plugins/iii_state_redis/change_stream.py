"""Read the streams of changes on connections of their own: every host's changes, in order, each once.

The position in a stream is the id of the last change taken from it. A stream is bounded: when it was trimmed
past the position while we were away, that is logged, because then changes are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from iii_skill.adapters.shared import NULL, ChangeFollower, is_json
from iii_skill.errors import AdapterError, AdapterUnavailable
from iii_skill.values import Change

from .commands import RawCommand, revision
from .connection import ServerConnection
from .layout import Bucket, decode, encode
from .store import MOST_RESENDS, RedisStore

log = logging.getLogger(__name__)

BATCH = 500
LOOK_AGAIN = 1.0
NOTHING_YET = b"0-0"


def newest(store: RedisStore, bucket: Bucket) -> asyncio.Future[Any]:
    """The last entry of the bucket's stream, in a list, as of now and no later."""
    command = RawCommand(store, bucket, store.pack((b"XREVRANGE", bucket.stream, b"+", b"-", b"COUNT", 1)))
    store.send(command)
    return command.future


def end_of(entries: Sequence[Any]) -> bytes:
    """The position that `newest` tells."""
    return bytes(entries[0][0]) if entries else NOTHING_YET


class StreamFollower(ChangeFollower[bytes]):
    """The position in the stream of one bucket, and the way to what comes after it."""

    def __init__(self, store: RedisStore, bucket: Bucket, prefix: str = "") -> None:
        """Changes of scopes that do not begin with `prefix` are left out."""
        super().__init__()
        self._prefix = encode(prefix)
        self._store = store
        self._bucket = bucket
        self._connection: ServerConnection | None = None
        self._behind = True
        """Entries after the position may be gone already."""
        self._block = max(1, int(min(store.timeout / 2, 2.0) * 1000))

    def locate(self) -> None:
        """Ask for the end of the stream, ahead of every later call; nothing once it has a position."""
        if self.position is None:
            newest(self._store, self._bucket).add_done_callback(self._located)

    def _located(self, end: asyncio.Future[Any]) -> None:
        if not end.cancelled() and end.exception() is None:
            self.stand(end_of(end.result()))

    async def newest(self) -> bytes:
        return end_of(await newest(self._store, self._bucket))

    async def after(self, position: bytes) -> tuple[Sequence[Change], bytes]:
        connection = self._connection
        if connection is None or connection.target != self._store.target_of(self._bucket):
            # The first one, or another node has taken the bucket over.
            await self.release()
            connection = self._connection = self._store.new_connection(self._bucket)
            await connection.open()
        if not await connection.connected(seconds=LOOK_AGAIN):
            return (), position
        entries = await self._read(connection, position)
        changes = [change for entry in entries if (change := self._change(entry)) is not None]
        return changes, entries[-1][0] if entries else position

    async def failed(self, error: AdapterError) -> None:
        # A connection that is away makes itself again; what the position names may be trimmed meanwhile.
        self._behind = True
        if not isinstance(error, AdapterUnavailable):
            await self.release()

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.abort()

    async def _read(self, connection: ServerConnection, position: bytes) -> Sequence[Any]:
        stream = self._bucket.stream
        behind, self._behind = self._behind, True
        if (
            behind
            and position != NOTHING_YET
            and not await self._ask(connection, b"XRANGE", stream, position, position)
        ):
            log.warning(
                "The stream of changes was trimmed past %s while this host was away: changes may be missing "
                "here; set a larger stream_length.",
                position.decode(),
            )
        reply = await self._ask(
            connection, b"XREAD", b"COUNT", BATCH, b"BLOCK", self._block, b"STREAMS", stream, position
        )
        entries: Sequence[Any] = reply[0][1] if reply else ()
        # A full batch may have more behind it, that grows old while this one is handled.
        self._behind = len(entries) == BATCH
        return entries

    def _ask(self, connection: ServerConnection, *command: bytes | int) -> asyncio.Future[Any]:
        question = RawCommand(self._store, self._bucket, self._store.pack(command))
        # A question that blocks must not be sent on over the connection that all calls share.
        question.resent = MOST_RESENDS
        connection.send(question)
        return question.future

    def _change(self, entry: Sequence[Any]) -> Change | None:
        stream_id, fields = entry
        try:
            _, raw_scope, _, raw_key, _, old, _, new = fields
        except ValueError:
            log.warning("Entry %r of the stream of changes is not ours; it is left out.", stream_id)
            return None
        if not raw_scope.startswith(self._prefix):
            return None
        scope, key = decode(raw_scope), decode(raw_key)
        if scope is None or key is None:
            return None
        if old and not is_json(old):
            # The write that repaired a broken key: its caller was told the same.
            old = NULL
        return Change(scope, key, old or None, new or None, revision(stream_id))
