"""RedisAdapter: state in any Redis or Valkey, shared by many hosts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from iii_skill.adapter import ChangeFunction, Deferred, Health, Page, StateAdapter
from iii_skill.adapters.shared import FollowedChanges, Key, is_json
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change, Durability

from .change_stream import StreamFollower, newest
from .cluster import ClusterStore
from .config import RedisConfig
from .connect import Server, read_info
from .key_commands import KeyCommands
from .layout import decode
from .scopes import ScopeFinder
from .scripts import PAGE
from .store import RedisStore

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
    changes_from_call: ClassVar[bool] = True
    server_setting: ClassVar[str | tuple[str, str] | None] = "redis_url"
    config_type = RedisConfig

    def __init__(self) -> None:
        self._opened: RedisStore | None = None
        self._changes: set[FollowedChanges] = set()

    @property
    def _store(self) -> RedisStore:
        if self._opened is None:
            raise not_open()
        return self._opened

    async def open(self, config: RedisConfig) -> None:
        """Connect. A server that is away is logged and tried again; one that refuses us is StoreRefused."""
        store = ClusterStore(config) if config.layout == "cluster" else RedisStore(config)
        try:
            await store.open()
            await _may_follow(store)
        except BaseException:
            await store.close()
            raise
        self._opened = store
        self._queues = KeyCommands(store)
        self._scopes = ScopeFinder(store)

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

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs at one moment; a value that is no JSON is left out and logged."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        flat, order = await store.with_order(b"HGETALL", place)
        values = dict(zip(flat[::2], flat[1::2], strict=True))
        pairs: list[tuple[str, bytes]] = []
        for key, raw in _in_order(scope, values, order):
            value = values[raw]
            if self._is_sound(scope, key, value):
                pairs.append((key, value))
        return pairs

    async def page(self, scope: str, after: str | None, limit: int) -> Page:
        """A page by the places of the keys; all that is left where that cannot be had."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        start = b"-inf" if after is None else b"(" + after.encode()
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
            (key, value) for key, value in found if key is not None and self._is_sound(scope, key, value)
        ]
        return Page(sound, last.decode() if len(found) == limit else None, total)

    def _is_sound(self, scope: str, key: str, value: bytes) -> bool:
        if self._store.known.get((scope, key)) == value or is_json(value):
            return True
        log.warning("Key %r of scope %r is left out of a list: it holds no JSON.", key, scope)
        return False

    async def keys(self, scope: str) -> Sequence[str]:
        """All keys at one moment, also of values that are no JSON."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        names, order = await store.with_order(b"HKEYS", place)
        return [key for key, _ in _in_order(scope, dict.fromkeys(names), order)]

    async def scopes(self) -> Sequence[str]:
        """Every scope with a key, those that a real engine made included."""
        return await self._scopes.all()

    async def health(self) -> Health:
        """What the server says of itself, and whether it may throw state away."""
        store = self._opened or self._store
        try:
            info = read_info(await store.ask(store.layout.buckets[0], b"INFO"))
        except AdapterError as error:
            return Health(ok=False, message=error.message)
        server = Server.of(store.target.label, info)
        names = ("redis_version", "used_memory", "maxmemory", "maxmemory_policy", "aof_enabled")
        facts = {name: info[name] for name in names if name in info}
        return Health(warnings=[server.eviction] if server.eviction else [], facts=facts)

    async def erase(self) -> None:
        """Remove every scope of the prefix, those of a real engine too, with order, index and stream."""
        store = self._store
        for scope in await self._scopes.all():
            place = store.layout.places[scope]
            await store.ask(place.bucket, b"UNLINK", place.values, place.order)
        for bucket in store.layout.buckets:
            await store.ask(bucket, b"UNLINK", bucket.index)
        for bucket in (*store.layout.buckets, *store.layout.private):
            await store.ask(bucket, b"UNLINK", bucket.stream)

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
