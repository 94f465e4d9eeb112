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

from .exchanges import NULL, Ask, is_json, revision
from .layout import Bucket, decode
from .link import Link, cancelled
from .store import MOST_REDIRECTS, Store

log = logging.getLogger(__name__)

BATCH = 500
PAUSE = 0.05
LONG_PAUSE = 1.0
GATHER = 0.002
"""Changes that follow each other closely are read together: the first waits for nobody."""
NOTHING_YET = b"0-0"


def newest(store: Store, bucket: Bucket) -> asyncio.Future[Any]:
    """The last entry of the bucket's stream, in a list, as of now and no later."""
    exchange = Ask(store, bucket, store.pack((b"XREVRANGE", bucket.stream, b"+", b"-", b"COUNT", 1)))
    store.send(exchange)
    return exchange.future


class Follower:
    """The position in the stream of one bucket, and the way to what comes after it."""

    def __init__(self, store: Store, bucket: Bucket) -> None:
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
        if self._position is None:
            self._position = end[0][0] if end else NOTHING_YET

    async def follow(self, batches: asyncio.Queue[Sequence[Change] | None]) -> None:
        """Put what comes after the position into the queue, for ever; faults are waited out."""
        while True:
            link = self._store.new_link(self._bucket)
            try:
                await link.open()
                while link.target == self._store.target_of(self._bucket):
                    if not await link.connected(seconds=LONG_PAUSE):
                        continue
                    changes = await self._next(link)
                    if changes:
                        await batches.put(changes)
                        await asyncio.sleep(GATHER)
            except AdapterError as error:
                log.error("The changes of other hosts cannot be read: %s Trying again.", error)
                await asyncio.sleep(LONG_PAUSE)
            finally:
                await link.abort()

    async def _next(self, link: Link) -> Sequence[Change]:
        try:
            if self._position is None:
                self._stand(await newest(self._store, self._bucket))
            entries = await self._read(link)
        except AdapterUnavailable:
            self._behind = True
            await asyncio.sleep(PAUSE)
            return ()
        if entries:
            self._position = entries[-1][0]
        return [change for entry in entries if (change := self._change(entry)) is not None]

    async def _read(self, link: Link) -> Sequence[Any]:
        stream, position = self._bucket.stream, self._position
        assert position is not None
        behind, self._behind = self._behind, True
        if (
            behind
            and position != NOTHING_YET
            and not await self._ask(link, b"XRANGE", stream, position, position)
        ):
            log.warning(
                "The stream of changes was trimmed past %s while this host was away: changes may be missing "
                "here; set a larger stream_length.",
                position.decode(),
            )
        reply = await self._ask(
            link, b"XREAD", b"COUNT", BATCH, b"BLOCK", self._block, b"STREAMS", stream, position
        )
        entries: Sequence[Any] = reply[0][1] if reply else ()
        self._behind = len(entries) == BATCH
        return entries

    def _ask(self, link: Link, *command: bytes | int) -> asyncio.Future[Any]:
        exchange = Ask(self._store, self._bucket, self._store.pack(command))
        # A question that blocks must not be sent on over the connection that all calls share.
        exchange.redirects = MOST_REDIRECTS
        link.send(exchange)
        return exchange.future

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
            old = NULL
        return Change(scope, key, old or None, new or None, revision(stream_id))


class Changes:
    """An async iterator over the changes of all buckets from now on; it ends when the adapter is closed."""

    def __init__(self, store: Store, closed: Callable[[Changes], None]) -> None:
        """`closed` is called when it has ended."""
        self._store = store
        self._closed = closed
        self._followers = [Follower(store, bucket) for bucket in store.layout.buckets]
        self._batches: asyncio.Queue[Sequence[Change] | None] = asyncio.Queue(maxsize=8)
        self._ready: deque[Change] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False
        self._look()
        # Where the server is away: as soon as it is there, before the first call changes anything.
        store.newcomers.append(self._look)

    def __aiter__(self) -> Changes:
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
            self._store.newcomers.remove(self._look)
            self._closed(self)
        await cancelled(*self._tasks)
        while not self._batches.empty():
            self._batches.get_nowait()
        self._batches.put_nowait(None)

    def _look(self) -> None:
        for follower in self._followers:
            follower.look()
