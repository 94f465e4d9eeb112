"""FileAdapter: changes run on the event loop over cached bytes, answers leave after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from iii_skill.adapter import Deferred, Health, Page, StateAdapter
from iii_skill.errors import AdapterError, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability
from iii_state_file.batches import Batches, Raised
from iii_state_file.checksums import name_checksum
from iii_state_file.config import FileConfig
from iii_state_file.failures import StoreBroken, is_passing, verdict
from iii_state_file.key_cache import CachedKey, KeyCache, check_name, name_size
from iii_state_file.listings import Listing, Listings
from iii_state_file.queue_thread import in_thread
from iii_state_file.reader import KEYS, LIST, PAGE, SCOPES, Scan, StoredKey
from iii_state_file.store import FileStore

_CLOSE_PATIENCE_SECONDS = 1
"""How long a close waits for the lock of another program."""

_LOW_BYTES = 200 * 1024 * 1024


class FileAdapter(StateAdapter):
    """SQLite in one directory of one process.

    Every call runs on the event loop against the cached value of its key; a key that is not cached is read
    by the reader thread first, and calls on it queue up behind that. The writes of one tick of the loop are
    one batch. The writer thread commits all batches that wait for it in one transaction, then the loop
    answers in order. Whatever would show an uncommitted value waits for the batch of that value.
    """

    name: ClassVar[str] = "file"
    durability: ClassVar[Durability] = Durability.DISK
    checked: ClassVar[bool] = True
    config_type: ClassVar[type[FileConfig]] = FileConfig

    # From `open` on. Keys are cached only from then on, and a call that finds none is refused first.
    _loop: asyncio.AbstractEventLoop
    _store: FileStore
    _batches: Batches

    def __init__(self) -> None:
        self._opening: asyncio.Future[FileStore] | None = None
        self._refusal: tuple[type[AdapterError], str] | None = (AdapterError, "The file adapter is not open.")
        self._cache = KeyCache(0)
        self._listings = Listings(0)
        self._missing: list[tuple[str, str]] = []
        self._reading = 0
        self._scans: set[Listing | asyncio.Future[Any]] = set()
        self._plenty = 0
        """The size below which no value needs a second look."""
        self._drained: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, config: FileConfig) -> None:
        """Open or create the store; StoreRefused says what to do when it cannot be used as it is."""
        self._loop = asyncio.get_running_loop()
        self._opening = in_thread(lambda: FileStore(config))
        store = self._store = await asyncio.shield(self._opening)
        self.data_dir = store.directory.path
        self._plenty = store.longest // 2
        self._cache = KeyCache(config.cache_bytes)
        self._listings = Listings(config.cache_bytes // 2)
        self._batches = Batches(store)
        store.start(
            self._loop,
            committed=self._commit_done,
            found=self._rows_found,
            scanned=self._scan_done,
            failed=self._fail,
        )
        self._refusal = None

    async def close(self) -> None:
        """Commit what was accepted, checkpoint, close the files and release the lock, also when cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        await asyncio.wait([opening])
        if opening.cancelled() or opening.exception() is not None:
            return
        store = opening.result()
        if self._refusal is None:
            self._refusal = (AdapterError, "The file adapter is closed.")
            # From here on every call looks for its key or listing in vain, and is refused.
            self._cache.keep_loading()
            self._listings.keep_loading()
            if self._reading or not self._batches.all_committed:
                self._drained = self._loop.create_future()
                hurry = self._loop.call_later(_CLOSE_PATIENCE_SECONDS, store.hurry)
                await self._drained
                hurry.cancel()
        self._cache.clear()
        await in_thread(store.close)
        self._listings.clear()

    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """The cached bytes at once when they are durable, else a Deferred."""
        name = (scope, key)
        cached = self._cache.get(name)
        if cached is None or cached.waiting is not None:
            if cached is None:
                listing = self._listings.get(scope)
                if listing is not None and listing.values is not None:
                    # No key that is not cached has a write under way: the listing shows it as it is stored.
                    return listing.values.get(key)
            return self._after_read(name, None)
        cached.used = True
        batches = self._batches
        if cached.batch <= batches.committed:
            return cached.value
        return batches.wait(cached.batch, cached.value, None)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run `change` on the current bytes now; the Deferred is settled when the outcome is durable."""
        name = (scope, key)
        cached = self._cache.get(name)
        if cached is None or cached.waiting is not None:
            return self._after_read(name, change)
        cached.used = True
        return self._apply(cached, change, None)

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All pairs of the scope after every write that was accepted before this call."""
        listing = self._listings.get(scope)
        if listing is not None and listing.values is not None:
            listing.used = True
            pairs = listing.pairs()
            batches = self._batches
            return pairs if listing.batch <= batches.committed else batches.wait(listing.batch, pairs, None)
        self._refuse()
        if listing is None:
            check_name(scope)
            listing = self._listings[scope] = Listing(scope)
            self._scan(Scan(listing, LIST, scope))
        # Else it is being read for others, and shows the writes since then, too.
        answer: Deferred[Sequence[tuple[str, bytes]]] = Deferred()
        listing.waiting.append(answer)
        return answer

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """All keys of the scope, their values unread."""
        listing = self._listings.get(scope)
        if listing is not None and listing.values is not None:
            listing.used = True
            keys = listing.keys()
            batches = self._batches
            return keys if listing.batch <= batches.committed else batches.wait(listing.batch, keys, None)
        return self._scan_alone(KEYS, scope)

    def page(self, scope: str, after: str | None, limit: int) -> Answer[Page]:
        """Pairs behind a position, read without those before it."""
        return self._scan_alone(PAGE, scope, after=0 if after is None else int(after), limit=limit)

    def scopes(self) -> Answer[Sequence[str]]:
        """Every scope that holds a key."""
        return self._scan_alone(SCOPES, "")

    def _apply(
        self, cached: CachedKey, change: ChangeFunction, answer: Deferred[Any] | None
    ) -> Answer[Change]:
        """Run one change on a key that is read; gives the outcome itself where it is durable already."""
        old = cached.value
        batches = self._batches
        try:
            new = change(old)
            if new.__class__ is bytes and len(new) > self._plenty:
                self._check_size(cached, new)
        except Exception as error:
            # The error may tell what the value is: it waits like a read.
            if cached.batch > batches.committed:
                return batches.wait(cached.batch, Raised(error), answer)
            if answer is None:
                raise
            answer.set_exception(error)
            return answer
        if new is KEEP:
            # A read, too.
            kept = Change(cached.scope, cached.key, old, old, 0)
            if cached.batch > batches.committed:
                return batches.wait(cached.batch, kept, answer)
            if answer is None:
                return kept
            answer.set_result(kept)
            return answer
        batches.revision = revision = batches.revision + 1
        # A key that goes loses its place, one that comes (again) goes to the end, an overwrite stays.
        if new is None:
            cached.position = 0
        elif old is None:
            cached.position = revision
        self._cache.used += (0 if new is None else len(new)) - (0 if old is None else len(old))
        cached.value = new
        cached.revision = revision
        current = batches.current
        if cached.batch != current.number:
            # Its first write in this tick; the first of all keys has the batch handed over at the end of it.
            cached.batch = current.number
            if not batches.dirty:
                self._loop.call_soon(batches.hand_over)
            batches.dirty.append(cached)
        listing = self._listings.get(cached.scope)
        if listing is not None and (new is not None or old is not None):
            listing.batch = current.number
            self._listings.write(listing, cached.key, old, new)
        if answer is None:
            answer = Deferred()
        current.answers.append((answer, Change(cached.scope, cached.key, old, new, revision)))
        return answer

    def _after_read(self, name: tuple[str, str], change: ChangeFunction | None) -> Answer[Any]:
        """Queue a call behind the read of its key; None is a get."""
        self._refuse()
        cached = self._cache.get(name)
        if cached is None:
            check_name(*name)
            if name_size(*name) > self._plenty:
                raise AdapterError("Scope and key are too long for the store: use shorter ones.")
            cached = self._cache[name] = CachedKey(*name)
            listing = self._listings.get(name[0])
            if (
                change is not None
                and listing is not None
                and listing.values is not None
                and name[1] not in listing.values
            ):
                # A listing knows which keys there are not.
                cached.start, cached.batch, cached.waiting = name_checksum(*name), 0, None
                self._cache.used += cached.size()
                return self._apply(cached, change, None)
            # The first call for the key starts the read, in one question with all others of this tick.
            if not self._missing:
                self._loop.call_soon(self._read)
            self._missing.append(name)
            self._reading += 1
        assert cached.waiting is not None
        answer: Deferred[Any] = Deferred()
        cached.waiting.append((answer, change))
        return answer

    def _read(self) -> None:
        """Hand over the keys that this tick of the loop asked for in vain."""
        if self._missing:
            self._store.read(self._missing)
            self._missing = []

    async def health(self) -> Health:
        """Whether it goes on, how large it is and how much room is left."""
        if self._refusal is not None:
            return Health(ok=False, message=self._refusal[1])
        facts = await in_thread(self._store.facts)
        low = facts["bytes_free"] < _LOW_BYTES
        warning = f"The disk of {self.data_dir} has only {facts['bytes_free']} bytes left: free some space."
        return Health(facts=facts, warnings=(warning,) if low else ())

    async def erase(self) -> None:
        """The files go when the adapter is closed."""
        self._refuse()
        self._store.erased = True

    def _scan_alone(self, query: str, scope: str, *, after: int = 0, limit: int = 0) -> asyncio.Future[Any]:
        """The rows of one moment, which is after every write that was accepted before this call."""
        self._refuse()
        check_name(scope)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._scan(Scan(future, query, scope, after, limit))
        return future

    def _scan(self, scan: Scan) -> None:
        self._scans.add(scan.asker)
        self._batches.follow(scan)

    def _scan_done(self, asker: Listing | asyncio.Future[Any], rows: Any) -> None:
        if self._broken:
            return
        self._scans.discard(asker)
        if isinstance(asker, asyncio.Future):
            if asker.done():
                return
            if isinstance(rows, AdapterError):
                asker.set_exception(rows)
            else:
                asker.set_result(rows)
            return
        waiting, asker.waiting = asker.waiting, []
        if isinstance(rows, AdapterError):
            self._listings.drop(asker)
            for answer in waiting:
                answer.set_exception(rows)
            return
        self._listings.keep(asker, rows)
        if self._refusal is not None:
            self._listings.drop(asker)
        batches = self._batches
        for answer in waiting:
            # Writes that were noted meanwhile may not be on the disk yet.
            if asker.batch > batches.committed:
                batches.wait(asker.batch, asker.pairs(), answer)
            else:
                answer.set_result(asker.pairs())
        self._evict()

    @property
    def _broken(self) -> bool:
        return self._refusal is not None and self._refusal[0] is StorageFailed

    def _refuse(self) -> None:
        if self._refusal is not None:
            raise self._refusal[0](self._refusal[1])

    def _commit_done(self, number: int) -> None:
        """Answer everyone who waited for batches up to `number`."""
        if self._broken:
            return
        self._batches.commit_done(number)
        self._evict()
        if self._drained is not None:
            self._check_drained()

    def _rows_found(self, names: Sequence[tuple[str, str]], rows: Sequence[StoredKey | AdapterError]) -> None:
        """Fill in the keys that were read and run the calls that waited for them."""
        if self._broken:
            return
        self._reading -= len(names)
        cache, batches = self._cache, self._batches
        for name, row in zip(names, rows, strict=True):
            # While the store closes, a key goes as soon as those who wait for it have run.
            cached = cache[name] if self._refusal is None else cache.pop(name)
            if isinstance(row, AdapterError):
                # Only those who asked learn it; the next call tries again.
                cache.pop(name, None)
                for answer, _ in cached.waiting or ():
                    answer.set_exception(row)
                continue
            cached.start, cached.position, cached.value = row
            cached.stored = cached.position
            cached.batch = 0
            cache.used += cached.size()
            # Calls that listeners make meanwhile go to the end of the queue.
            for answer, change in cached.waiting or ():
                if change is not None:
                    self._apply(cached, change, answer)
                elif cached.batch > batches.committed:
                    batches.wait(cached.batch, cached.value, answer)
                else:
                    answer.set_result(cached.value)
            cached.waiting = None
        self._evict()
        if self._drained is not None:
            self._check_drained()

    def _evict(self) -> None:
        cache, listings = self._cache, self._listings
        if listings.used > listings.limit:
            listings.evict()
        if cache.used + listings.used > cache.limit:
            cache.evict(self._batches.committed, cache.limit - listings.used)

    def _check_drained(self) -> None:
        if (
            self._drained is not None
            and not (self._reading or self._drained.done())
            and self._batches.all_committed
        ):
            self._drained.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Fail-stop: nothing is acknowledged or shown any more, every caller learns it."""
        if self._broken:
            return
        failure = verdict(error)
        if is_passing(error):
            failure = StoreBroken("another program locked it to the end", "close that program")
        elif not isinstance(failure, StoreBroken):
            failure = StoreBroken(str(error), "check the disk")
        message = (
            f"The store in {self.data_dir} failed ({failure}) and is stopped: {failure.advice}, then start "
            "again."
        )
        self._refusal = (StorageFailed, message)
        self._missing.clear()
        self._reading = 0
        self._listings.clear()
        answers: list[Any] = [*self._batches.abandon(), *self._cache.abandon()]
        for asker in self._scans:
            answers += asker.waiting if isinstance(asker, Listing) else (asker,)
        self._scans.clear()
        for answer in answers:
            if not answer.done():
                answer.set_exception(StorageFailed(message))
        self._check_drained()
        if self.on_failure is not None:
            self.on_failure(StorageFailed(message))

    def _check_size(self, cached: CachedKey, value: bytes) -> None:
        room = self._store.longest - name_size(cached.scope, cached.key)
        if len(value) > room:
            raise AdapterError(
                f"The value would take {len(value)} bytes, and the store holds at most {room} under that "
                "key: split it over several keys."
            )
