"""Adapters that are wrong on purpose, one mistake each, every one named by what it does."""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, ClassVar

import msgspec
from iii_state_memory import MemoryAdapter
from iii_state_redis import RedisAdapter
from support.hub_adapter import HubAdapter
from support.journal_adapter import JournalAdapter

from iii_skill.adapter import Page, PastKey, PastPage, Version, Write
from iii_skill.values import KEEP, Change, ChangeFunction

Pairs = Sequence[tuple[str, bytes]]


class LosesAnUpdate(MemoryAdapter):
    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        new = change(self.get(scope, key))
        await asyncio.sleep(0)
        return super().update(scope, key, lambda _old: new)


class AppliesOneIncrementTwice(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        if self._revision == 99:
            super().update(scope, key, change)
        return super().update(scope, key, change)


class SortsKeys(MemoryAdapter):
    def list(self, scope: str) -> Pairs:
        return sorted(super().list(scope))


class OverwriteMoves(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if not done.kept and done.new is not None:
            held = self._scopes[scope]
            held[key] = held.pop(key)
        return done


class RecreatedKeyGetsItsOldPlace(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.places: dict[tuple[str, str], int] = {}

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        self.places.setdefault((scope, key), len(self.places))
        return super().update(scope, key, change)

    def list(self, scope: str) -> Pairs:
        return sorted(super().list(scope), key=lambda pair: self.places[scope, pair[0]])


class ReusesRevisions(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        if self.get(scope, key) is None:
            self._revision = 0
        return super().update(scope, key, change)


class FirstRevisionIsZero(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self._revision = -1


class DeleteOfNothingHasNoRevision(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        if self.get(scope, key) is None:
            return Change(scope, key, None, None, 0)
        return self.update(scope, key, lambda _old: None)


class KeepTakesARevision(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if done.kept:
            self._revision += 1
            return Change(scope, key, done.old, done.new, self._revision)
        return done


class ShowsWhatIsOver(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        return self._scopes.get(scope, {}).get(key)


class ListsWhatIsOver(MemoryAdapter):
    def list(self, scope: str) -> Pairs:
        return list(self._scopes.get(scope, {}).items())


class SetLeavesTheEnd(MemoryAdapter):
    def set(self, scope: str, key: str, value: bytes) -> Change:
        return self.update(scope, key, lambda _old: value)


class UpdateTakesTheEndAway(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        self._ends.drop(scope, key)
        return done


class MadeAgainHasTheFormerEnd(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        at = self._ends.at(scope, key)
        done = super().delete(scope, key)
        if at is not None:
            self._ends.put(scope, key, at)
        return done


class ChangesWhatIsOver(MemoryAdapter):
    def _is_over(self, scope: str, key: str) -> bool:
        return False


class TellsNoEnd(MemoryAdapter):
    def _end(self, scope: str, key: str) -> None:
        self.update(scope, key, lambda _old: None) if self._ends.drop(scope, key) is None else None


class TellsEndsTwice(MemoryAdapter):
    def _end(self, scope: str, key: str) -> None:
        told: list[Change] = []
        hear, self.on_expired = self.on_expired, told.append
        super()._end(scope, key)
        self.on_expired = hear
        for change in told * 2:
            if hear is not None:
                hear(change)


class EndsHaveNoRevision(MemoryAdapter):
    def _end(self, scope: str, key: str) -> None:
        self._revision -= 1
        super()._end(scope, key)


class SweepTellsNoNextEnd(MemoryAdapter):
    def sweep(self) -> int | None:
        super().sweep()
        return None


class SweepsAThousandAtMost(MemoryAdapter):
    def sweep(self) -> int | None:
        for scope, key in self._ends.over(self.clock.now_ms(), 1000):
            self._end(scope, key)
        return None


class TakesEndsUndeclared(MemoryAdapter):
    expires: ClassVar[bool] = False


class ForgetsVersionsOfDeletedKeys(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        done = super().delete(scope, key)
        if self._versions is not None:
            self._versions._keys.pop((scope, key), None)
        return done


class KeepsVersionsOfNothing(MemoryAdapter):
    def delete(self, scope: str, key: str) -> Change:
        done = super().delete(scope, key)
        if self._versions is not None and done.old is None:
            self._versions.note(scope, key, None, done.revision)
        return done


class KeepsEveryVersion(MemoryAdapter):
    async def open(self, config: Any) -> None:
        await super().open(config)
        if self._versions is not None:
            self._versions._keep = 10_000


class VersionsNeverGrowOld(MemoryAdapter):
    async def open(self, config: Any) -> None:
        await super().open(config)
        if self._versions is not None:
            self._versions._span_ms *= 1000


class ForgetsThatVersionsWereDropped(MemoryAdapter):
    def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        page = super().past(moment, after, limit)
        keys = [PastKey(one.scope, one.key, one.value) for one in page.keys]
        return PastPage(keys, page.after, page.whole_from, page.whole_from_ms)


class PastOfNow(MemoryAdapter):
    async def moment_at(self, at_ms: int) -> int:
        return await super().moment_at(at_ms) + 1


class PastOfEachScope(MemoryAdapter):
    """Its scopes are counted apart."""

    def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        here, later = (super(PastOfEachScope, self).past(at, after, limit) for at in (moment, moment + 40))
        keys = [
            one if one.scope != "scope-1" else then for one, then in zip(here.keys, later.keys, strict=True)
        ]
        return PastPage(keys, here.after, here.whole_from, here.whole_from_ms)


class MomentsGoOn(MemoryAdapter):
    """A commit that is under way joins a moment later."""

    async def moment_at(self, at_ms: int) -> int:
        return await super().moment_at(at_ms) + 8


class PartsOfWhatIsTogetherHaveMoments(MemoryAdapter):
    """Nobody else comes between its writes, and each has a moment of its own."""

    together: ClassVar[bool] = True

    async def write_together(self, writes: Sequence[Write]) -> int:
        for write in writes:
            self.update(write.scope, write.key, lambda _old, new=write.value: new)  # type: ignore[misc]
        return len(writes)


class WritesTogetherInSeveralTransactions(RedisAdapter):
    async def write_together(self, writes: Sequence[Write]) -> int:
        parts = [writes[start : start + 500] for start in range(0, len(writes), 500)]
        return sum([await RedisAdapter.write_together(self, part) for part in parts])


class PagesOfVersionsOverlap(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        return super().history(scope, key, None if before is None else before + 1, limit)


class ShowsWhatIsOverAsAVersion(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        assert self._versions is not None
        return self._versions.of(scope, key, before, limit)


class PagesOfVersionsAreCutAnywhere(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        return super().history(scope, key, before, min(limit, 4))


class PagesOfVersionsAreUnbounded(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        assert self._versions is not None
        kept = self._versions._keys[scope, key].versions
        return [one for one in reversed(kept) if before is None or one.revision < before][:limit]


class KeepsVersionsUnasked(MemoryAdapter):
    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        return []


class KeepCreatesTheScope(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        self._scopes.setdefault(scope, {})
        return super().update(scope, key, change)


class SwallowsErrorsOfChange(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        try:
            return super().update(scope, key, change)
        except Exception:
            return super().update(scope, key, lambda _old: KEEP)


class WrapsErrorsOfChange(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        try:
            return super().update(scope, key, change)
        except Exception as error:
            raise RuntimeError("update failed") from error


class MixesTwoMomentsInList(MemoryAdapter):
    async def list(self, scope: str) -> Pairs:  # type: ignore[override]
        pairs = []
        for key in self.keys(scope):
            await asyncio.sleep(0)
            value = self.get(scope, key)
            if value is not None:
                pairs.append((key, value))
        return pairs

    def keys(self, scope: str) -> Sequence[str]:
        return list(self._scopes.get(scope, {}))


class NormalisesKeys(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        return super().get(scope, unicodedata.normalize("NFC", key))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, unicodedata.normalize("NFC", key), change)
        return msgspec.structs.replace(done, key=key)


class FoldsTheCaseOfScopes(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        return super().get(scope.lower(), key)

    def list(self, scope: str) -> Pairs:
        return super().list(scope.lower())

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        return msgspec.structs.replace(super().update(scope.lower(), key, change), scope=scope)


class JoinsScopeAndKeyWithAColon(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.flat: dict[str, bytes] = {}

    def get(self, scope: str, key: str) -> bytes | None:
        return self.flat.get(f"{scope}:{key}")

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, lambda _old: change(self.get(scope, key)))
        if done.new is None:
            self.flat.pop(f"{scope}:{key}", None)
        else:
            self.flat[f"{scope}:{key}"] = done.new
        return msgspec.structs.replace(done, old=done.old)


class CutsLongKeys(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        return super().get(scope, key[:255])

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        return msgspec.structs.replace(super().update(scope, key[:255], change), key=key)


class ParsesValues(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        def again(old: bytes | None) -> Any:
            new = change(old)
            return json.dumps(json.loads(new)).encode() if isinstance(new, bytes) else new

        return super().update(scope, key, again)


class KeepsNumbersAsDoubles(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        value = super().get(scope, key)
        return b"%d" % float(value) if value is not None and value.isdigit() else value


class StripsWhitespace(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        value = super().get(scope, key)
        return None if value is None else value.strip()


class TakesNullForAbsent(MemoryAdapter):
    def get(self, scope: str, key: str) -> bytes | None:
        value = super().get(scope, key)
        return None if value == b"null" else value


class GivesText(MemoryAdapter):
    def get(self, scope: str, key: str) -> Any:
        value = super().get(scope, key)
        return None if value is None else value.decode()


class ReadsAStaleCache(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[str, str], bytes | None] = {}

    def get(self, scope: str, key: str) -> bytes | None:
        return self.cache.setdefault((scope, key), super().get(scope, key))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        asyncio.get_running_loop().call_soon(self.cache.clear)
        return super().update(scope, key, change)


class ScopesStayWhenEmpty(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, None] = {}

    def scopes(self) -> Sequence[str]:
        self.known.update(dict.fromkeys(super().scopes()))
        return list(self.known)


class ListsAThousandAtMost(MemoryAdapter):
    def list(self, scope: str) -> Pairs:
        return super().list(scope)[:1000]

    def keys(self, scope: str) -> Sequence[str]:
        return super().keys(scope)[:1000]


class PagesByRank(MemoryAdapter):
    """The place of a page is how many keys came before it, which changes when they go."""

    def page(self, scope: str, after: str | None, limit: int) -> Page:
        pairs = self.list(scope)
        end = int(after or 0) + limit
        return Page(pairs[int(after or 0) : end], str(end) if end < len(pairs) else None, len(pairs))


class PagesByKey(MemoryAdapter):
    """A page begins after the key of the last one, and at the start when that is gone."""

    def page(self, scope: str, after: str | None, limit: int) -> Page:
        pairs = self.list(scope)
        keys = [key for key, _ in pairs]
        start = keys.index(after) + 1 if after in keys else 0
        found = pairs[start : start + limit]
        return Page(found, found[-1][0] if start + limit < len(pairs) else None, len(pairs))


class PagesMissTheLast(MemoryAdapter):
    def page(self, scope: str, after: str | None, limit: int) -> Page:
        page = super().page(scope, after, limit)
        return page if page.after else Page(page.pairs[:-1], None, page.total)


class PagesAreTooLong(MemoryAdapter):
    def page(self, scope: str, after: str | None, limit: int) -> Page:
        return super().page(scope, after, limit + 1)


class PagesTellTheirOwnLength(MemoryAdapter):
    def page(self, scope: str, after: str | None, limit: int) -> Page:
        page = super().page(scope, after, limit)
        return Page(page.pairs, page.after, len(page.pairs))


class ItsClockIsTheRevision(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        return done if done.kept else msgspec.structs.replace(done, revision=time.time_ns())


class ItsImportedClockIsTheRevision(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        now = int(datetime.now().timestamp() * 1e6)
        return done if done.kept else msgspec.structs.replace(done, revision=now)


class SweepsTheCounterOfADeletedKey(MemoryAdapter):
    """Counts per key, and forgets the counters of deleted keys at maintenance."""

    def __init__(self) -> None:
        super().__init__()
        self.counters: dict[tuple[str, str], int] = {}

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if done.kept:
            return done
        count = self.counters[scope, key] = self.counters.get((scope, key), 0) + 1
        return msgspec.structs.replace(done, revision=count)

    async def maintain(self) -> None:
        self.counters = {place: n for place, n in self.counters.items() if self.get(*place) is not None}


class SaysNothingOfItsHealth(MemoryAdapter):
    async def health(self) -> Any:
        return None


class EraseKeepsAScope(MemoryAdapter):
    async def erase(self) -> None:
        for scope in list(self._scopes)[:-1]:
            del self._scopes[scope]

    async def close(self) -> None:
        KEPT.update(self._scopes)

    async def open(self, config: Any) -> None:
        self._scopes.update(KEPT)
        KEPT.clear()


KEPT: dict[str, dict[str, bytes]] = {}


class SetDoesNotTellOld(MemoryAdapter):
    def set(self, scope: str, key: str, value: bytes) -> Change:
        return msgspec.structs.replace(self.update(scope, key, lambda _old: value), old=None)


class CloseNeverEnds(MemoryAdapter):
    async def close(self) -> None:
        await asyncio.Event().wait()


class SecondCloseFails(MemoryAdapter):
    async def open(self, config: Any) -> None:
        self.handle = object()

    async def close(self) -> None:
        del self.handle


class LeavesATask(MemoryAdapter):
    async def open(self, config: Any) -> None:
        self.task = asyncio.create_task(asyncio.Event().wait())


class _Job:
    """An answer that knows the call that knows it."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self.ask = self.answer

    def answer(self) -> Change:
        return self.change


class LeavesCycles(MemoryAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Any:
        return _Job(super().update(scope, key, change)).ask()


class Batching(MemoryAdapter):
    """A right adapter that gathers the calls of one tick, for the three below."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[asyncio.Future[Change], tuple[str, str, ChangeFunction]]] = []

    def update(self, scope: str, key: str, change: ChangeFunction) -> Any:
        answer: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self.waiting.append((answer, (scope, key, change)))
        return answer

    def flush(self) -> None:
        for answer, call in self.take():
            if answer.done():
                continue
            try:
                answer.set_result(super().update(*call))
            except Exception as error:
                answer.set_exception(error)

    def take(self) -> Any:
        calls, self.waiting = self.waiting, []
        return calls


class AnswersOutOfOrder(Batching):
    def take(self) -> Any:
        return reversed(super().take())


class OneErrorFailsTheBatch(Batching):
    def flush(self) -> None:
        calls = self.take()
        try:
            changes = [MemoryAdapter.update(self, *call) for _, call in calls]
        except Exception as error:
            for answer, _ in calls:
                answer.set_exception(error)
        else:
            for (answer, _), change in zip(calls, changes, strict=True):
                answer.set_result(change)


class FailsAtACancelledCaller(Batching):
    def flush(self) -> None:
        for answer, call in self.take():
            answer.set_result(MemoryAdapter.update(self, *call))


class CancelledCallerKeepsTheLock(MemoryAdapter):
    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:  # type: ignore[override]
        await self.lock.acquire()
        await asyncio.sleep(0)
        done = super().update(scope, key, change)
        self.lock.release()
        return done


class ChangesHalfWorks(MemoryAdapter):
    async def changes(self) -> AsyncIterator[Change]:
        yield Change("scope", "key", None, b"1", 1)


class WritesTogetherUndeclared(MemoryAdapter):
    async def write_together(self, writes: Sequence[Write]) -> int:
        for write in writes:
            self.update(write.scope, write.key, lambda _old, new=write.value: new)  # type: ignore[misc]
        return len(writes)


class MakesWritesOneByOne(HubAdapter):
    together: ClassVar[bool] = True

    async def write_together(self, writes: Sequence[Write]) -> int:
        for write in writes:
            self.update(write.scope, write.key, lambda _old, new=write.value: new)  # type: ignore[misc]
            await asyncio.sleep(0)
        return len(writes)


class TogetherIgnoresIfAbsent(MakesWritesOneByOne):
    pass


class AcceptsAnySetting(MemoryAdapter):
    class Config(msgspec.Struct, frozen=True):
        """Not strict."""

    config_type: ClassVar[type[msgspec.Struct]] = Config


class HasABadName(MemoryAdapter):
    name: ClassVar[str] = "My Adapter"


# On disk.


class WritesOnlyAtClose(JournalAdapter):
    def write(self, line: bytes) -> None:
        assert self.file is not None
        self.pending = [*getattr(self, "pending", []), line]

    def unload(self) -> None:
        if self.file is not None:
            self.file.writelines(getattr(self, "pending", []))
        super().unload()


class AnswersBeforeTheWrite(JournalAdapter):
    def write(self, line: bytes) -> None:
        assert self.thread is not None
        self.thread.submit(time.sleep, 0.01)
        self.thread.submit(super().write, line)


class ShowsWhatIsNotWrittenYet(JournalAdapter):
    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        self.remember(scope, key, new)
        time.sleep(0.01 if scope == "crash" else 0)
        super().store(scope, key, new, revision)

    def get(self, scope: str, key: str) -> Any:
        return self.held.get(scope, {}).get(key)


class TearsValues(JournalAdapter):
    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        if new is not None and len(new) > 64:
            super().store(scope, key, new[: len(new) // 2], revision)
            time.sleep(0.02)
        super().store(scope, key, new, revision)


class TearsABatch(JournalAdapter):
    """Stores the order beside the value, in two steps with a crash window between them."""

    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        if new is not None and key not in self.held.get(scope, {}):
            super().store(scope, key, b"null", revision)
            time.sleep(0.02)
        super().store(scope, key, new, revision)


class ForgetsRevisionsAtAKill(JournalAdapter):
    def encode(self, scope: str, key: str, new: bytes | None, revision: int) -> bytes:
        return super().encode(scope, key, new, 0)


class ForgetsRevisionsOfDeletedKeys(JournalAdapter):
    def load(self) -> None:
        super().load()
        self.revision = len([key for held in self.held.values() for key in held])


class SortsAtOpen(JournalAdapter):
    def load(self) -> None:
        super().load()
        self.held = {scope: dict(sorted(keys.items())) for scope, keys in self.held.items()}


class DeletedKeysComeBack(JournalAdapter):
    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        if new is not None:
            super().store(scope, key, new, revision)


class TwoHostsMayOpen(JournalAdapter):
    def lock(self) -> None:
        self.guard = 0

    def unload(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class BlocksTheLoop(JournalAdapter):
    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        return self.apply(scope, key, change)


class NamesFilesByKey(JournalAdapter):
    def store(self, scope: str, key: str, new: bytes | None, revision: int) -> None:
        assert self.data_dir is not None
        (self.data_dir / f"{key.replace('/', '_')}.json").write_bytes(new or b"")
        super().store(scope, key, new, revision)


class KeepsFilesOpen(JournalAdapter):
    def load(self) -> None:
        super().load()
        assert self.data_dir is not None
        self.leaked = (self.data_dir / "journal").open("rb")
        LEAKED.append(self.leaked)


LEAKED: list[Any] = []


class LosesWritesAfterClose(JournalAdapter):
    def run(self, work: Any, *arguments: Any) -> asyncio.Future[Any]:
        if self.thread is not None:
            return super().run(work, *arguments)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result(Change("scope", "after", None, b"1", 1))
        return answer


# Shared.


class YieldsNothing(HubAdapter):
    def tell(self, change: Change) -> None:
        if change.scope == "probe":
            super().tell(change)


class YieldsTwice(HubAdapter):
    def tell(self, change: Change) -> None:
        super().tell(change)
        if change.scope != "probe" and change.revision % 7 == 0:
            super().tell(change)


class YieldsOutOfOrder(HubAdapter):
    def tell(self, change: Change) -> None:
        self.late: list[Change] = [*getattr(self, "late", []), change]
        if change.scope == "probe" or len(self.late) == 3:
            for late in reversed(self.late):
                super().tell(late)
            self.late = []


class YieldsKeep(HubAdapter):
    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if done.kept:
            self.tell(done)
        return done


class YieldsOnlyOthersChanges(HubAdapter):
    async def changes(self) -> AsyncIterator[Change]:
        self.own: set[int] = set()
        async for change in super().changes():
            if change.scope == "probe" or change.revision not in self.own:
                yield change

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        if hasattr(self, "own"):
            self.own.add(done.revision)
        return done


class ChangesEndsByItself(HubAdapter):
    async def changes(self) -> AsyncIterator[Change]:
        return
        yield


class CountsFromTheFirstRead(HubAdapter):
    changes_from_call = True


class EachHostReadsItsOwnCache(HubAdapter):
    def __init__(self) -> None:
        self.cache: dict[tuple[str, str], bytes | None] = {}

    def get(self, scope: str, key: str) -> bytes | None:
        return self.cache.setdefault((scope, key), super().get(scope, key))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        done = super().update(scope, key, change)
        self.cache[scope, key] = done.new
        return done


class MissesChangesOfKilledHosts(RedisAdapter):
    changes_from_call = False

    async def changes(self) -> AsyncIterator[Change]:
        async for change in super().changes():
            if change.scope != "crash" or change.revision % 10:
                yield change


class TwoHostsLoseUpdates(HubAdapter):
    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:  # type: ignore[override]
        new = change(self.get(scope, key))
        await asyncio.sleep(0)
        return super().update(scope, key, lambda _old: new)
