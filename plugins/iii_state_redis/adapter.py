"""RedisAdapter: state in any Redis or Valkey, shared by many hosts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar, Literal

from iii_skill.adapter import (
    Answer,
    ChangeFunction,
    Deferred,
    Expiry,
    Health,
    Page,
    PastPage,
    StateAdapter,
    Version,
    Write,
    no_history,
)
from iii_skill.adapters.shared import FollowedChanges, Key, is_json
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable, StoreRefused
from iii_skill.values import Change, Durability, Keep

from .change_stream import StreamFollower, newest
from .cluster import ClusterStore
from .config import RedisConfig
from .connect import Server, read_info
from .ends import end_of, over, over_in, scopes_over, sweep
from .history import History, erase
from .key_commands import KeyCommands
from .layout import decode
from .rights import missing, setting
from .scopes import ScopeFinder
from .scripts import PAGE
from .store import RedisStore
from .together import write_together

log = logging.getLogger(__name__)


class RedisAdapter(StateAdapter):
    """Values in hashes, order beside them, every change also in a stream that all hosts read.

    An acknowledged write is as durable as the server is set up to make it (`appendfsync`, replicas). Reads
    always ask the server.
    """

    name: ClassVar[str] = "redis"
    durability: ClassVar[Durability] = Durability.REMOTE
    shared: ClassVar[bool] = True
    checked: ClassVar[bool] = True
    expires: ClassVar[bool] = True
    historical: ClassVar[bool] = True
    together: ClassVar[bool] = True
    maintenance_seconds: ClassVar[float | None] = 10.0
    changes_from_call: ClassVar[bool] = True
    server_setting: ClassVar[str | tuple[str, str] | None] = "redis_url"
    config_type = RedisConfig

    def __init__(self) -> None:
        self._opened: RedisStore | None = None
        self._changes: set[FollowedChanges] = set()
        self._history: History | None = None

    @property
    def _store(self) -> RedisStore:
        if self._opened is None:
            raise not_open()
        return self._opened

    async def open(self, config: RedisConfig) -> None:
        """Connect. A server that is away is logged and tried again; one that refuses us is StoreRefused."""
        if config.layout == "cluster" and config.history is not None:
            raise StoreRefused(
                "The adapter 'redis' keeps no history with layout=cluster, whose nodes have no order of "
                "changes in common: leave out `history`, or use layout=engine."
            )
        store = ClusterStore(config) if config.layout == "cluster" else RedisStore(config)
        clock = self.clock
        store.now_ms = clock.now_ms
        scopes = ScopeFinder(store)
        history = None
        try:
            await store.open()
            await _may_follow(store)
            await store.ends.ask_all()
            if config.history is not None:
                history = History(config.history, store, lambda: round(clock.ahead * 1000), scopes.all)
                store.history = history
                await history.begin()
        except BaseException:
            await store.close()
            raise
        self._opened, self._history = store, history
        self._queues = KeyCommands(store)
        self._scopes = scopes

    async def close(self) -> None:
        """Wait for the replies that are due, then disconnect; iterators over changes end."""
        store, self._opened = self._opened, None
        if store is not None:
            await asyncio.gather(store.close(), *(changes.aclose() for changes in list(self._changes)))

    def get(self, scope: str, key: str) -> Deferred[bytes | None]:
        """The bytes that Redis holds now."""
        store = self._opened or self._store
        known = (scope, key)
        queue = self._queues.get(known)
        if queue is None:
            return store.read(store.layout.places[scope], known)
        return self._queues.read_after(queue)

    def set(self, scope: str, key: str, value: bytes) -> Deferred[Change]:
        """Store `value` in one round trip."""
        return self._write((scope, key), value)

    def delete(self, scope: str, key: str) -> Deferred[Change]:
        """Remove the key in one round trip."""
        return self._write((scope, key), None)

    def _write(self, key: Key, new: bytes | None) -> Deferred[Change]:
        store = self._opened or self._store
        queue = self._queues.get(key)
        if queue is None:
            return store.write(store.layout.places[key[0]], key, new)
        return self._queues.write_after(queue, new)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Deferred[Change]:
        """Compute the change here and swap it in; after a lost race, again on the newer bytes."""
        if self._opened is None:
            raise not_open()
        queues, known = self._queues, (scope, key)
        if known in queues.by_key:
            return queues.update(known, change)
        return queues.new(known).begin(change)

    async def write_together(self, writes: Sequence[Write]) -> int:
        """All writes in one transaction; in a cluster those of one scope."""
        return await write_together(self._opened or self._store, writes)

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs at one moment; a value that is no JSON is left out and logged."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        flat, order, names = await store.with_order(b"HGETALL", place)
        left_out = over_in(scope, names)
        values = dict(zip(flat[::2], flat[1::2], strict=True))
        pairs: list[tuple[str, bytes]] = []
        for key, raw in _in_order(scope, values, order):
            value = values[raw]
            if key not in left_out and self._is_sound(scope, key, value):
                pairs.append((key, value))
        return pairs

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        """A page by the places of the keys; all that is left where that cannot be had."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        start = b"-inf" if after is None else b"(" + after.encode()
        left_out = await over(store, place, scope)
        try:
            reply = await store.ask(place.bucket, b"EVAL", PAGE, 2, place.values, place.order, start, limit)
        except (AdapterUnavailable, AdapterTimeout):
            raise
        except AdapterError:
            reply = None  # No right to EVAL.
        if reply is None:
            given: set[str | None] = set()
            if after is not None:
                names = await store.ask(place.bucket, b"ZRANGEBYSCORE", place.order, b"-inf", after)
                given = set(map(decode, names))
            pairs = await self.list(scope)
            return Page([pair for pair in pairs if pair[0] not in given], None, len(pairs))
        flat, last, total = reply
        found = [(decode(raw), value) for raw, value in zip(flat[::2], flat[1::2], strict=True)]
        sound = [
            (key, value)
            for key, value in found
            if key is not None and key not in left_out and self._is_sound(scope, key, value)
        ]
        return Page(sound, last.decode() if len(found) == limit else None, total - len(left_out))

    def _is_sound(self, scope: str, key: str, value: bytes) -> bool:
        if self._store.known.get((scope, key)) == value or is_json(value):
            return True
        log.warning("Key %r of scope %r is left out of a list: it holds no JSON.", key, scope)
        return False

    async def keys(self, scope: str) -> Sequence[str]:
        """All keys at one moment, also of values that are no JSON."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        fields, order, names = await store.with_order(b"HKEYS", place)
        left_out = over_in(scope, names)
        named = _in_order(scope, dict.fromkeys(fields), order)
        return [key for key, _ in named if key not in left_out]

    async def scopes(self) -> Sequence[str]:
        """Every scope with a key, those that a real engine made included."""
        store = self._opened or self._store
        gone = await scopes_over(store, store.now_ms())
        found = await self._scopes.all()
        if not gone:
            return found
        counts = {scope: await self._count(scope) for scope in gone}
        return [scope for scope in found if scope not in gone or counts[scope] > gone[scope]]

    async def _count(self, scope: str) -> int:
        place = self._store.layout.places[scope]
        return int(await self._store.ask(place.bucket, b"HLEN", place.values))

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Answer[Expiry]:
        """Give the key an end, take it away, or tell it, after the calls for the key that wait already."""
        store = self._opened or self._store
        known = (scope, key)
        queue = self._queues.get(known)
        if queue is None:
            return store.expire(known, at_ms)
        before = self._queues.read_after(queue)

        async def later() -> Expiry:
            with contextlib.suppress(AdapterError):
                await before
            return await store.expire(known, at_ms)

        return later()

    async def sweep(self) -> int | None:
        """Make the ends that came, each once, whichever host is first; when the next key ends."""
        return await sweep(self._opened or self._store)

    async def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The versions of a key, after the calls for the key that wait already."""
        history = self._kept()
        queue = self._queues.get((scope, key))
        if queue is not None:
            with contextlib.suppress(AdapterError):
                await self._queues.read_after(queue)
        if history.keeps(scope):
            # Who may not ask for ends has none; a server that is away is told of by what follows.
            with contextlib.suppress(AdapterError):
                await end_of(self._opened or self._store, scope, key)
        return await history.versions(scope, key, before, limit)

    async def moment_at(self, at_ms: int) -> int:
        """The revision of the last change up to that time."""
        return await self._kept().moment_at(at_ms)

    async def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        """What keys held at a moment, in the order of their names."""
        return await self._kept().past(moment, after, limit)

    def _kept(self) -> History:
        if self._opened is None:
            raise not_open()
        if self._history is None:
            raise no_history(self.name)
        return self._history

    async def maintain(self) -> None:
        """Drop versions that are not shown any more."""
        if self._opened is not None and self._history is not None:
            await self._history.forget()

    async def health(self) -> Health:
        """What the server says of itself, and whether it may throw state away."""
        store = self._opened or self._store
        try:
            info = read_info(await store.ask(store.layout.buckets[0], b"INFO"))
            flushed = await setting(store, "appendfsync")
            lacking = await missing(store)
        except AdapterError as error:
            return Health(ok=False, message=error.message)
        server = Server.of(store.target.label, info)
        names = ("redis_version", "used_memory", "maxmemory", "maxmemory_policy", "aof_enabled")
        facts = {name: info[name] for name in names if name in info}
        if flushed is not None:
            facts["appendfsync"] = flushed
        if lacking:
            facts["rights_missing"] = ", ".join(lacking)
        return Health(warnings=[server.eviction] if server.eviction else [], facts=facts)

    async def erase(self) -> None:
        """Remove every scope of the prefix, those of a real engine too, with order, index and stream."""
        store = self._store
        for scope in await self._scopes.all():
            place = store.layout.places[scope]
            await store.ask(place.bucket, b"UNLINK", place.values, place.order)
        for bucket in store.layout.buckets:
            await store.ask(bucket, b"UNLINK", bucket.index, bucket.ends)
        for bucket in (*store.layout.buckets, *store.layout.private):
            await store.ask(bucket, b"UNLINK", bucket.stream)
        await erase(store)

    def changes(self) -> AsyncIterator[Change]:
        """Every host's changes from now on, own ones included, in order per key, each once.

        Those of private scopes are left out.
        """
        store = self._store
        return self._follow([StreamFollower(store, bucket) for bucket in store.layout.buckets])

    def changes_below(self, prefix: str) -> AsyncIterator[Change]:
        """The same for the private scopes that begin with `prefix`."""
        store = self._store
        return self._follow([StreamFollower(store, bucket, prefix) for bucket in store.layout.private])

    def _follow(self, followers: Sequence[StreamFollower]) -> AsyncIterator[Change]:
        store = self._store

        def locate() -> None:
            for follower in followers:
                follower.locate()

        def closed(changes: FollowedChanges) -> None:
            store.on_connected.remove(locate)
            self._changes.discard(changes)

        locate()
        # Where the server is away: as soon as it is there, before the first call changes anything.
        store.on_connected.append(locate)
        changes = FollowedChanges(followers, closed)
        self._changes.add(changes)
        return changes


def not_open() -> AdapterUnavailable:
    """The error of a call before `open` or after `close`."""
    return AdapterUnavailable("The adapter 'redis' is not open.")


async def _may_follow(store: RedisStore) -> None:
    """Raise now what following the changes would meet later; a server that is away is no reason."""
    with contextlib.suppress(AdapterUnavailable, AdapterTimeout):
        await newest(store, store.layout.buckets[0])


def _in_order(scope: str, values: dict[bytes, object], order: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Field names in order of first insertion; those of other programs follow, sorted."""
    known = [raw for raw in order if raw in values]
    foreign = sorted(values.keys() - set(known)) if len(known) < len(values) else []
    pairs: list[tuple[str, bytes]] = []
    for raw in (*known, *foreign):
        key = decode(raw)
        if key is None:
            log.warning("A field of scope %r is left out: its name %r is no UTF-8.", scope, raw)
        else:
            pairs.append((key, raw))
    return pairs
