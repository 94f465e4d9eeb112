"""RedisAdapter: state in any Redis or Valkey, shared by many hosts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from iii_skill.adapter import ChangeFunction, Deferred, StateAdapter
from iii_skill.errors import AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change, Durability

from .changes import Changes, newest
from .cluster import Cluster
from .config import RedisConfig
from .exchanges import is_json
from .layout import decode
from .scopes import Scopes
from .store import Store
from .turns import Turn

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
    config_type = RedisConfig

    def __init__(self) -> None:
        self._opened: Store | None = None
        self._changes: set[Changes] = set()

    @property
    def _store(self) -> Store:
        if self._opened is None:
            raise AdapterUnavailable("The adapter 'redis' is not open.")
        return self._opened

    async def open(self, config: RedisConfig) -> None:
        """Connect. A server that is away is logged and tried again; one that refuses us is StoreRefused."""
        store = Cluster(config) if config.layout == "cluster" else Store(config)
        try:
            await store.open()
            await _may_follow(store)
        except BaseException:
            await store.close()
            raise
        self._opened = store
        self._scopes = Scopes(store)

    async def close(self) -> None:
        """Wait for the replies that are due, then disconnect; iterators over changes end."""
        store, self._opened = self._opened, None
        if store is not None:
            await asyncio.gather(store.close(), *(changes.aclose() for changes in list(self._changes)))

    def get(self, scope: str, key: str) -> Deferred[bytes | None]:
        """The bytes that Redis holds now."""
        store = self._opened or self._store
        known = (scope, key)
        turn = store.turns.get(known)
        if turn is None:
            return store.read(store.layout.places[scope], known)
        answer: Deferred[bytes | None] = Deferred()
        turn.add(answer, None)
        return answer

    def set(self, scope: str, key: str, value: bytes) -> Deferred[Change]:
        """Store `value` in one round trip."""
        return self._write(scope, key, value)

    def delete(self, scope: str, key: str) -> Deferred[Change]:
        """Remove the key in one round trip."""
        return self._write(scope, key, None)

    def _write(self, scope: str, key: str, new: bytes | None) -> Deferred[Change]:
        store = self._opened or self._store
        known = (scope, key)
        turn = store.turns.get(known)
        if turn is None:
            return store.write(store.layout.places[scope], known, new)
        answer: Deferred[Change] = Deferred()
        turn.add(answer, lambda _old: new, blind=True)
        return answer

    def update(self, scope: str, key: str, change: ChangeFunction) -> Deferred[Change]:
        """Compute the change here and swap it in; after a lost race, again on the newer bytes."""
        store = self._opened or self._store
        known = (scope, key)
        answer: Deferred[Change] = Deferred()
        turn = store.turns.get(known)
        if turn is None:
            place = store.layout.places[scope]
            turn = store.turns[known] = Turn(store, place.bucket, place=place, key=known)
            turn.begin(answer, change)
        else:
            turn.add(answer, change)
        return answer

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs at one moment; a value that is no JSON is left out and logged."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        flat, order = await store.with_order(b"HGETALL", place)
        values = dict(zip(flat[::2], flat[1::2], strict=True))
        pairs: list[tuple[str, bytes]] = []
        for key, raw in _in_order(scope, values, order):
            value = values[raw]
            if store.known.get((scope, key)) == value or is_json(value):
                pairs.append((key, value))
            else:
                log.warning("Key %r of scope %r is left out of a list: it holds no JSON.", key, scope)
        return pairs

    async def keys(self, scope: str) -> Sequence[str]:
        """All keys at one moment, also of values that are no JSON."""
        store = self._opened or self._store
        place = store.layout.places[scope]
        names, order = await store.with_order(b"HKEYS", place)
        return [key for key, _ in _in_order(scope, dict.fromkeys(names), order)]

    async def scopes(self) -> Sequence[str]:
        """Every scope with a key, those that a real engine made included."""
        return await self._scopes.all()

    def changes(self) -> AsyncIterator[Change]:
        """Every host's changes from now on, own ones included, in order per key, each once."""
        changes = Changes(self._store, self._changes.discard)
        self._changes.add(changes)
        return changes


async def _may_follow(store: Store) -> None:
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
