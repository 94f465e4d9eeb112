"""Adapters that are wrong in one detail each, for the checks that no plainer mistake fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import unicodedata
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from iii_state_file import FileAdapter
from iii_state_memory import MemoryAdapter
from iii_state_redis import RedisAdapter
from support.cellar import CellarAdapter
from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter
from support.wrong_adapters import Batching
from support.wrong_shared_adapters import LOST

from iii_skill.adapter import Expiry, Version, settled
from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import KEEP, Change, ChangeFunction, Keep

End = int | Literal[Keep.KEEP] | None
Pairs = Sequence[tuple[str, bytes]]

# One call at a time.


class GivesNullForAbsentKeys(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        return super().get(scope, key) or b"null"


class HasAScopeFromTheStart(MemoryAdapter):
    def scopes(self) -> Sequence[str]:
        return [*super().scopes(), "default"]


class DeleteStoresNull(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        return msgspec.structs.replace(self.update(scope, key, lambda _old: b"null"), new=None)


class DeleteOfNothingMakesTheScope(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        done = super().delete(scope, key)
        if done.old is None:
            self._scopes.setdefault(scope, {})
        return done


class GivesChangeEmptyBytes(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        return super().update(scope, key, lambda old: change(old or b""))


class TakesNoneForKeep(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        return MemoryAdapter.update(self, scope, key, lambda _old: None)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        def again(old: bytes | None) -> Any:
            new = change(old)
            return KEEP if new is None else new

        return super().update(scope, key, again)


class DeletesInEveryScope(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        for other in [one for one in self.scopes() if one != scope]:
            super().delete(other, key)
        return super().delete(scope, key)


class TellsAHundredScopesAtMost(MemoryAdapter):
    def scopes(self) -> Sequence[str]:
        return super().scopes()[:100]


class KeysAreSorted(MemoryAdapter):
    def keys(self, scope: str) -> Sequence[str]:
        return sorted(super().keys(scope))


class GetIsOneWriteBehind(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.before: dict[tuple[str, str], bytes | None] = {}

    def get(self, scope: str, key: str) -> bytes | None:
        return self.before.get((scope, key))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        self.before[scope, key] = done.old
        return done


class TheSameBytesTakeNoRevision(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if done.kept or done.old is None or done.new != done.old:
            return done
        self._revision -= 1
        return msgspec.structs.replace(done, revision=self._revision)


class ABatchHasOneRevision(Batching):
    def flush(self) -> None:
        self._revision += 1
        for answer, call in self.take():
            done = MemoryAdapter.update(self, *call)
            self._revision -= not done.kept
            answer.set_result(done if done.kept else msgspec.structs.replace(done, revision=self._revision))


class RunsChangeOnceMore(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        change(done.new)
        return done


class CutsLongValuesInLists(MemoryAdapter):
    def list(self, scope: str) -> Pairs:
        return [(key, value[:100_000]) for key, value in super().list(scope)]


# From open to close.

HELD: list[object] = []


class ACancelledOpenHoldsItsLock(MemoryAdapter):
    locked = False

    async def open(self, config: Any) -> None:
        if HELD:
            raise StoreRefused("Another host has it open: end that first.")
        HELD.append(self)
        await asyncio.sleep(0)
        self.locked = True

    async def close(self) -> None:
        if self.locked:
            HELD.clear()


class CloseFailsWhatItAccepted(Batching):
    def flush(self) -> None:
        asyncio.get_running_loop().call_later(0.2, super().flush)

    async def close(self) -> None:
        for answer, _ in self.take():
            answer.set_exception(RuntimeError("the event loop is closed"))
        await super().close()


class ACancelledGetHidesTheKeys(MemoryAdapter):
    """Its lists are empty while somebody reads, and who is cancelled reads for ever."""

    reading = 0

    async def get(self, scope: str, key: str) -> bytes | None:  # type: ignore[override]
        self.reading += 1
        await asyncio.sleep(0)
        self.reading -= 1
        return super().get(scope, key)

    def list(self, scope: str) -> Pairs:
        return [] if self.reading else super().list(scope)


class ItsDataDirIsRelative(MemoryAdapter):
    async def open(self, config: Any) -> None:
        self.data_dir = Path("data")


class RecoversAnotherOrderEachTime(JournalAdapter):
    """What it finds is turned round and so written again."""

    def load(self) -> None:
        super().load()
        for scope, keys in self.held.items():
            turned = dict(reversed(keys.items()))
            self.held[scope] = turned
            for key, value in turned.items():
                for new in (None, value):
                    self.revision += 1
                    self.store(scope, key, new, self.revision)


# Ends.


class KeepsTheFirstEnd(MemoryAdapter):
    def expire(self, scope: str, key: str, at_ms: End) -> Expiry:
        former = super().expire(scope, key, KEEP)
        has_one = former.at_ms is not None and isinstance(at_ms, int)
        return former if has_one else super().expire(scope, key, at_ms)


class GivesAbsentKeysAnEnd(MemoryAdapter):
    def expire(self, scope: str, key: str, at_ms: End) -> Expiry:
        if self.get(scope, key) is None and isinstance(at_ms, int):
            self._ends.put(scope, key, at_ms)
            return Expiry(True, at_ms)
        return super().expire(scope, key, at_ms)


class TellsScopesThatAreOver(MemoryAdapter):
    def scopes(self) -> Sequence[str]:
        return list(self._scopes)


class ExpireMoves(MemoryAdapter):
    def expire(self, scope: str, key: str, at_ms: End) -> Expiry:
        keys = self._scopes.get(scope, {})
        if key in keys:
            keys[key] = keys.pop(key)
        return super().expire(scope, key, at_ms)


class EndsTheNormalisedName(MemoryAdapter):
    def expire(self, scope: str, key: str, at_ms: End) -> Expiry:
        return super().expire(scope, unicodedata.normalize("NFD", key), at_ms)


class ForgetsEndsWhenItCloses(FileAdapter):
    async def close(self) -> None:
        with contextlib.suppress(AdapterError):
            for scope in await settled(self.scopes()):
                for key in await settled(self.keys(scope)):
                    await settled(self.expire(scope, key, None))
        await super().close()


class StoresNoEnds(FileAdapter):
    async def expire(self, scope: str, key: str, at_ms: End) -> Expiry:
        found = await settled(super().expire(scope, key, KEEP))
        return Expiry(found.found, at_ms) if isinstance(at_ms, int) else found


class EachHostKnowsItsOwnEnds(RedisAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.own: dict[tuple[str, str], int | None] = {}

    async def expire(self, scope: str, key: str, at_ms: End) -> Expiry:  # type: ignore[override]
        if at_ms is not KEEP:
            self.own[scope, key] = at_ms
        return Expiry(True, self.own.get((scope, key)))


class EachHostTellsAnEnd(RedisAdapter):
    async def changes(self) -> AsyncIterator[Change]:
        async for change in super().changes():
            yield change
            if change.new is None:
                yield change


# Versions.


class MissesAVersionInFifty(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        return [one for one in super().history(scope, key, before, limit) if one.revision % 50]


class BoundsHaveASign(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        if before is not None:
            before.to_bytes(8, "little", signed=True)
        return super().history(scope, key, before, limit)


class EndsAreNoVersions(MemoryAdapter):
    def _end(self, scope: str, key: str) -> None:
        versions, self._versions = self._versions, None
        super()._end(scope, key)
        self._versions = versions


class VersionsAreParsed(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        found = super().history(scope, key, before, limit)
        return [
            one
            if one.value is None
            else msgspec.structs.replace(one, value=msgspec.json.encode(json.loads(one.value)))
            for one in found
        ]


class ForgetsVersionsWhenItOpens(FileAdapter):
    since = 0

    async def open(self, config: Any) -> None:
        await super().open(config)
        if config.history is not None:
            self.since = await settled(self.moment_at(int(self.clock.now() * 1000) + 60_000))

    async def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        found = await settled(super().history(scope, key, before, limit))
        return [one for one in found if one.revision > self.since]


# Several hosts.


class ACancelledReaderTakesTheWritesAlong(HubAdapter):
    stopped = False

    async def changes(self) -> AsyncIterator[Change]:
        try:
            async for change in super().changes():
                yield change
        finally:
            type(self).stopped = True

    def get(self, scope: str, key: str) -> bytes | None:
        return None if self.stopped else super().get(scope, key)


class CloseAsksTheServer(CellarAdapter):  # type: ignore[misc]
    asked = False

    async def close(self) -> None:
        if self.client is not None and not self.asked:
            self.asked = True
            kwargs = self.client.connection_pool.connection_kwargs
            kwargs.update(socket_timeout=None, socket_connect_timeout=None)
            await self.client.connection_pool.disconnect()
            self.client.connection_pool.reset()
            await self.client.ping()
        await super().close()


class ALostConnectionIsTheEnd(CellarAdapter):  # type: ignore[misc]
    lost = False

    async def call(self, work: Any) -> Any:
        if self.lost:
            raise AdapterError("The connection is lost.")
        try:
            return await super().call(work)
        except LOST:
            self.lost = True
            raise
