"""Find every scope that holds a key: the index that our scripts keep, and what a real engine made.

The index may name scopes that another program emptied, so every scope is looked at before it is told. A real
engine keeps no index; its scopes are searched with SCAN, at most once in `scan_seconds`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence

from .layout import PackedPlace, decode
from .store import RedisStore

CHUNK = 1000


class ScopeFinder:
    """The scopes of a store."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._foreign: set[str] = set()
        self._scanned: float | None = None

    async def all(self) -> Sequence[str]:
        """Every scope with at least one key, without duplicates."""
        store = self._store
        indexes = await asyncio.gather(
            *(store.ask(bucket, b"SMEMBERS", bucket.index) for bucket in store.layout.buckets)
        )
        named = {scope for members in indexes for raw in members if (scope := decode(raw)) is not None}
        if store.layout.name == "engine":
            await self._scan()
        return await self._filled(sorted(named | self._foreign))

    async def _filled(self, scopes: Sequence[str]) -> Sequence[str]:
        filled: list[str] = []
        for start in range(0, len(scopes), CHUNK):
            part = scopes[start : start + CHUNK]
            places: Iterable[PackedPlace] = [self._store.layout.places[scope] for scope in part]
            types = await asyncio.gather(*(self._store.ask(p.bucket, b"TYPE", p.values) for p in places))
            filled += [scope for scope, kind in zip(part, types, strict=True) if kind == b"hash"]
        return filled

    async def _scan(self) -> None:
        store = self._store
        now = store.loop.time()
        if self._scanned is not None and now - self._scanned < store.config.scan_seconds:
            return
        (bucket,) = store.layout.buckets
        pattern = re.sub(rb"([\\*?\[\]^-])", rb"\\\1", bucket.values) + b"*"
        found: set[str] = set()
        cursor = b"0"
        while True:
            cursor, names = await store.ask(
                bucket, b"SCAN", cursor, b"MATCH", pattern, b"COUNT", CHUNK, b"TYPE", b"hash"
            )
            found.update(scope for name in names if (scope := decode(name[len(bucket.values) :])) is not None)
            if cursor == b"0":
                break
        self._foreign = found
        self._scanned = now
