"""Adapters over a real server that are wrong on purpose, one mistake each, named by what it does."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from support.cellar import CellarAdapter, module

from iii_skill.adapter import Page
from iii_skill.errors import AdapterUnavailable, StoreRefused
from iii_skill.values import KEEP, Change, ChangeFunction

LOST = module.LOST


class Fed(CellarAdapter):  # type: ignore[misc]
    """The feed of the right adapter in steps, for the mistakes below."""

    async def newest(self) -> int:
        found = await self.client.xrevrange(self.keys_of("")[4], count=1)
        return int(found[0][0].partition(b"-")[0]) if found else 0

    async def following(self, position: int) -> list[Change]:
        found = await self.client.xread({self.keys_of("")[4]: f"{position}-0"}, count=500, block=500)
        return [
            Change(
                fields[b"s"].decode(),
                fields[b"k"].decode(),
                fields[b"o"] or None,
                fields[b"n"] or None,
                int(entry.partition(b"-")[0]),
            )
            for entry, fields in (found[0][1] if found else ())
        ]


class FeedGoesOnFromNow(Fed):
    async def changes(self) -> AsyncIterator[Change]:
        while self.client is not None:
            try:
                position = await self.newest()
                while self.client is not None:
                    for change in await self.following(position):
                        position = change.revision
                        yield change
            except LOST:
                await asyncio.sleep(0.2)


class FeedRaisesWhenItBreaks(Fed):
    async def changes(self) -> AsyncIterator[Change]:
        position = await self.newest()
        while self.client is not None:
            for change in await self.following(position):
                position = change.revision
                yield change


class FeedRepeatsABatch(Fed):
    """Reads again from the last position that it noted, which is that of a whole batch."""

    async def changes(self) -> AsyncIterator[Change]:
        position: int | None = None
        while self.client is not None:
            try:
                if position is None:
                    position = await self.newest()
                changes = await self.following(position)
                for change in changes:
                    yield change
                position = changes[-1].revision if changes else position
            except LOST:
                position = max(0, (position or 0) - 3)
                await asyncio.sleep(0.2)


class FeedIsAChannel(CellarAdapter):  # type: ignore[misc]
    """Publishes on a channel of Redis: what nobody hears is gone."""

    async def write(self, scope: str, key: str, expected: bytes, new: bytes) -> Any:
        revision, old = await super().write(scope, key, expected, new)
        if revision:
            words = (
                b"%d" % revision,
                scope.encode(),
                key.encode(),
                old if expected == b"*" else expected,
                new,
            )
            with contextlib.suppress(*LOST):
                await self.client.publish(self.channel(), b"\xff".join(words))
        return revision, old

    def channel(self) -> str:
        return f"{self.config.prefix}:channel"

    async def changes(self) -> AsyncIterator[Change]:
        while self.client is not None:
            try:
                async with self.client.pubsub() as pubsub:
                    await pubsub.subscribe(self.channel())
                    while self.client is not None:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.5)
                        if message is not None:
                            revision, scope, key, old, new = message["data"].split(b"\xff")
                            yield Change(
                                scope.decode(), key.decode(), old or None, new or None, int(revision)
                            )
            except LOST:
                await asyncio.sleep(0.2)


class OneChannelForAllStores(FeedIsAChannel):
    def channel(self) -> str:
        return "changes"


class OneLogForAllStores(CellarAdapter):  # type: ignore[misc]
    def keys_of(self, scope: str) -> list[bytes]:
        return [*super().keys_of(scope)[:3], b"shared:counter", b"shared:log"]


class SendsAWriteAgain(CellarAdapter):  # type: ignore[misc]
    async def write(self, scope: str, key: str, expected: bytes, new: bytes) -> Any:
        arguments = [scope.encode(), key.encode(), expected, new, self.config.log_length]
        for attempt in range(3):
            try:
                return await self.write_script(self.keys_of(scope), arguments)
            except LOST as error:
                if attempt == 2:
                    raise AdapterUnavailable("The server is away.") from error
                await asyncio.sleep(0.05)
        return None


class ItsClientSendsAgain(CellarAdapter):  # type: ignore[misc]
    """Leaves the retries of the client library on."""

    async def open(self, config: Any) -> None:
        await super().open(config)
        retry = redis.asyncio.retry.Retry(redis.backoff.ConstantBackoff(0.05), 3)
        self.client.connection_pool.connection_kwargs["retry"] = retry
        await self.client.connection_pool.disconnect()
        self.client.connection_pool.reset()


class SaysUnavailableOfALostWrite(CellarAdapter):  # type: ignore[misc]
    async def write(self, scope: str, key: str, expected: bytes, new: bytes) -> Any:
        arguments = [scope.encode(), key.encode(), expected, new, self.config.log_length]
        return await self.ask(lambda client: self.write_script(self.keys_of(scope), arguments, client=client))


class HasNoTimeout(CellarAdapter):  # type: ignore[misc]
    async def open(self, config: Any) -> None:
        await super().open(config)
        kwargs = self.client.connection_pool.connection_kwargs
        kwargs.update(socket_timeout=None, socket_connect_timeout=None)
        await self.client.connection_pool.disconnect()
        self.client.connection_pool.reset()

    async def call(self, work: Any) -> Any:
        return await work(self.client)


class FeedHasNoTimeout(Fed):
    async def changes(self) -> AsyncIterator[Change]:
        client = redis.asyncio.from_url(str(self.config.url), socket_timeout=None)
        position: int | None = None
        try:
            while self.client is not None:
                try:
                    if position is None:
                        position = await self.newest()
                    stream = self.keys_of("")[4]
                    found = await client.xread({stream: f"{position}-0"}, count=500, block=500)
                except LOST:
                    await asyncio.sleep(0.2)
                    continue
                for entry, fields in found[0][1] if found else ():
                    position = int(entry.partition(b"-")[0])
                    yield Change(
                        fields[b"s"].decode(),
                        fields[b"k"].decode(),
                        fields[b"o"] or None,
                        fields[b"n"] or None,
                        position,
                    )
        finally:
            await client.aclose()


class RefusesWhileTheServerIsAway(CellarAdapter):  # type: ignore[misc]
    async def open(self, config: Any) -> None:
        await super().open(config)
        try:
            await self.client.ping()
        except LOST as error:
            raise StoreRefused("The server is away: start it.") from error


class ListsInTwoStatements(CellarAdapter):  # type: ignore[misc]
    async def list(self, scope: str) -> Any:
        values, order = self.keys_of(scope)[:2]
        names = await self.ask(lambda client: client.zrange(order, 0, -1))
        held = await self.ask(lambda client: client.hgetall(values))
        return [(name.decode(), held[name]) for name in names if name in held]


class ListsNamesAndThenTheirValues(CellarAdapter):  # type: ignore[misc]
    async def list(self, scope: str) -> Any:
        pairs = []
        for key in await self.keys(scope):
            value = await self.get(scope, key)
            if value is not None:
                pairs.append((key, value))
        return pairs

    async def keys(self, scope: str) -> Any:
        names = await self.ask(lambda client: client.zrange(self.keys_of(scope)[1], 0, -1))
        return [name.decode() for name in names]


class CountsAPageAfterwards(CellarAdapter):  # type: ignore[misc]
    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        page = await super().page(scope, after, limit)
        total = await self.ask(lambda client: client.hlen(self.keys_of(scope)[0]))
        return Page(page.pairs, page.after, total)


class Cached(Fed):
    """Remembers values and forgets them when the feed tells of another's change."""

    async def open(self, config: Any) -> None:
        self.cache: dict[tuple[str, str], bytes | None] = {}
        await super().open(config)
        self.watching = asyncio.ensure_future(self.watch())

    async def close(self) -> None:
        if self.client is not None:
            await ended(self.watching)
        await super().close()

    async def watch(self) -> None:
        async for change in CellarAdapter.changes(self):
            self.cache[change.scope, change.key] = change.new


class AnswersGetFromACache(Cached):
    async def get(self, scope: str, key: str) -> bytes | None:
        if (scope, key) not in self.cache:
            self.cache[scope, key] = await super().get(scope, key)
        return self.cache[scope, key]


class DecidesFromACache(Cached):
    """Compares and sets on the server, but decides on KEEP without asking it."""

    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        known = self.cache.get((scope, key))
        if known is not None and change(known) is KEEP:
            return Change(scope, key, known, known, 0)
        done: Change = await super().update(scope, key, change)
        self.cache[scope, key] = done.new
        return done


class DropsTheOldestForASlowReader(Fed):
    async def changes(self) -> AsyncIterator[Change]:
        buffer: collections.deque[Change] = collections.deque(maxlen=500)
        news = asyncio.Event()

        async def fill() -> None:
            async for change in CellarAdapter.changes(self):
                buffer.append(change)
                news.set()

        task = asyncio.ensure_future(fill())
        try:
            while self.client is not None:
                await news.wait()
                news.clear()
                while buffer:
                    yield buffer.popleft()
        finally:
            await ended(task)


class HoldsALock(CellarAdapter):  # type: ignore[misc]
    """Takes a lock of the store around `change`."""

    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        lock = self.client.lock(f"{self.config.prefix}:lock", timeout=self.lapse(), sleep=0.01)
        await lock.acquire()
        try:
            old = await self.get(scope, key)
            new = change(old)
            if new is KEEP:
                return Change(scope, key, old, old, 0)
            revision, _ = await self.write(scope, key, b"*", new or b"")
            return Change(scope, key, old, new, revision)
        finally:
            with contextlib.suppress(redis.exceptions.LockError):
                await lock.release()

    def lapse(self) -> float | None:
        return None

    async def erase(self) -> None:
        await super().erase()
        await self.client.unlink(f"{self.config.prefix}:lock")


class HoldsALockThatLapses(HoldsALock):
    """The lock lapses while its holder stands still, and the holder writes all the same when it goes on."""

    def lapse(self) -> float | None:
        return 0.5


class TakesRevisionsFromTheLog(CellarAdapter):  # type: ignore[misc]
    """The largest revision of the key that the log still has, plus one; the log is short."""

    async def write(self, scope: str, key: str, expected: bytes, new: bytes) -> Any:
        revision, old = await super().write(scope, key, expected, new)
        if not revision:
            return revision, old
        own = f"{self.config.prefix}:own"
        async with self.client.pipeline(transaction=True) as pipe:
            pipe.hincrby(f"{own}:{scope}:{key}", "n", 1)
            pipe.rpush(own, f"{scope}:{key}")
            count, length = await pipe.execute()
        if length > 1000:
            oldest = await self.client.lpop(own)
            await self.client.unlink(f"{own}:{oldest.decode()}")
        return count, old


class ItsClockIsTheRevision(CellarAdapter):  # type: ignore[misc]
    async def write(self, scope: str, key: str, expected: bytes, new: bytes) -> Any:
        revision, old = await super().write(scope, key, expected, new)
        return (time.time_ns() if revision else 0), old


class CutsItsPagesByRank(CellarAdapter):  # type: ignore[misc]
    """The place of a page is how many keys came before it, which changes when they go."""

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        pairs = await self.list(scope)
        start = int(after or 0)
        end = start + limit if limit >= 0 else len(pairs)
        return Page(pairs[start:end], str(end) if end < len(pairs) else None, len(pairs))

    async def list(self, scope: str) -> Any:
        return (await CellarAdapter.page(self, scope, None, -1)).pairs


class ErasesNothing(CellarAdapter):  # type: ignore[misc]
    async def erase(self) -> None:
        """Leave everything."""


class ForgetsItsLogWhenItErases(CellarAdapter):  # type: ignore[misc]
    async def erase(self) -> None:
        for scope in await self.scopes():
            for key in await self.keys(scope):
                await self.client.hdel(self.keys_of(scope)[0], key)


async def ended(task: asyncio.Future[None]) -> None:
    """Cancel it until it ends: Python 3.11 can lose a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
