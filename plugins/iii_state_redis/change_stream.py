"""Read the streams of changes on connections of their own: every host's changes, in order, each once.

The position in a stream is the id of the last change taken from it, so that nothing is lost or repeated when
the connection breaks. A stream is bounded: when it was trimmed past the position while we were away, that is
logged, because then changes are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from iii_skill.errors import AdapterError, AdapterUnavailable
from iii_skill.values import Change

from .commands import NULL, RawCommand, is_json, revision
from .connection import ServerConnection, cancelled
from .layout import Bucket, decode
from .store import MOST_RESENDS, RedisStore

log = logging.getLogger(__name__)

BATCH = 500
PAUSE = 0.05
LONG_PAUSE = 1.0
GATHER = 0.002
"""Changes that follow each other closely are read together: the first waits for nobody."""
NOTHING_YET = b"0-0"


def newest(store: RedisStore, bucket: Bucket) -> asyncio.Future[Any]:
    """The last entry of the bucket's stream, in a list, as of now and no later."""
    command = RawCommand(store, bucket, store.pack((b"XREVRANGE", bucket.stream, b"+", b"-", b"COUNT", 1)))
    store.send(command)
    return command.future


class StreamFollower:
    """The position in the stream of one bucket, and the way to what comes after it."""

    def __init__(self, store: RedisStore, bucket: Bucket) -> None:
        self._store = store
        self._bucket = bucket
        self._position: bytes | None = None
        self._behind = True
        """Entries after the position may be gone already."""
        self._block = max(1, int(min(store.timeout / 2, 2.0) * 1000))

    def look(self) -> None:
        """Ask for the end of the stream, ahead of every later call; nothing once it has a position."""
        if self._position is None:
            newest(self._store, self._bucket).add_done_callback(self._seen)

    def _seen(self, end: asyncio.Future[Any]) -> None:
        if not end.cancelled() and end.exception() is None:
            self._stand(end.result())

    def _stand(self, end: Sequence[Any]) -> None:
        # The first answer counts: a later one, after a lost connection, would skip what came between.
        if self._position is None:
            self._position = end[0][0] if end else NOTHING_YET

    async def follow(self, batches: asyncio.Queue[Sequence[Change] | None]) -> None:
        """Put what comes after the position into the queue, for ever; faults are waited out."""
        while True:
            connection = self._store.new_connection(self._bucket)
            try:
                await connection.open()
                while connection.target == self._store.target_of(self._bucket):
                    if not await connection.connected(seconds=LONG_PAUSE):
                        # Away; meanwhile another node may have taken the bucket over.
                        continue
                    changes = await self._next(connection)
                    if changes:
                        await batches.put(changes)
                        await asyncio.sleep(GATHER)
            except AdapterError as error:
                # A missing right or a broken key: only somebody else can mend it.
                log.error("The changes of other hosts cannot be read: %s Trying again.", error)
                await asyncio.sleep(LONG_PAUSE)
            finally:
                await connection.abort()

    async def _next(self, connection: ServerConnection) -> Sequence[Change]:
        try:
            if self._position is None:
                self._stand(await newest(self._store, self._bucket))
            entries = await self._read(connection)
        except AdapterUnavailable:
            # The connection is made again; the position stays, and what it names may be trimmed meanwhile.
            self._behind = True
            await asyncio.sleep(PAUSE)
            return ()
        if entries:
            self._position = entries[-1][0]
        return [change for entry in entries if (change := self._change(entry)) is not None]

    async def _read(self, connection: ServerConnection) -> Sequence[Any]:
        stream, position = self._bucket.stream, self._position
        assert position is not None
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
        scope, key = decode(raw_scope), decode(raw_key)
        if scope is None or key is None:
            return None
        if old and not is_json(old):
            # The write that repaired a broken key: its caller was told the same.
            old = NULL
        return Change(scope, key, old or None, new or None, revision(stream_id))


class ChangeStream:
    """An async iterator over the changes of all buckets from now on; it ends when the adapter is closed."""

    def __init__(self, store: RedisStore, closed: Callable[[ChangeStream], None]) -> None:
        """`closed` is called when it has ended."""
        self._store = store
        self._closed = closed
        self._followers = [StreamFollower(store, bucket) for bucket in store.layout.buckets]
        self._batches: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(maxsize=8)
        self._ready: deque[Change] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False
        self._look()
        # Where the server is away: as soon as it is there, before the first call changes anything.
        store.on_connected.append(self._look)

    def __aiter__(self) -> ChangeStream:
        return self

    async def __anext__(self) -> Change:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            if not self._tasks:
                self._tasks = [asyncio.create_task(f.follow(self._batches)) for f in self._followers]
            self._ready.extend(await self._batches.get() or ())
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Stop reading; who waits for the next change gets the end."""
        if not self._ended:
            self._ended = True
            self._store.on_connected.remove(self._look)
            self._closed(self)
        await cancelled(*self._tasks)
        while not self._batches.empty():
            self._batches.get_nowait()
        self._batches.put_nowait(None)

    def _look(self) -> None:
        for follower in self._followers:
            follower.look()
