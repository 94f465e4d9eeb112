"""FileAdapter: changes run on the event loop over cached bytes, answers leave after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, Literal

from iii_skill.adapter import Expiry, Health, Page, PastPage, StateAdapter, Version, no_history, settled
from iii_skill.errors import AdapterError, StorageFailed
from iii_skill.values import KEEP, MAX_REVISION, Answer, Change, ChangeFunction, Durability, Keep
from iii_state_file.batches import Batches
from iii_state_file.config import FileConfig
from iii_state_file.ends import SWEPT, Ends, Expire, Overwrite
from iii_state_file.failures import StoreBroken, is_passing, verdict
from iii_state_file.history import History
from iii_state_file.key_cache import KeyCache
from iii_state_file.key_calls import KeyCalls
from iii_state_file.key_reader import StoredKey
from iii_state_file.listings import Listing, Listings
from iii_state_file.past import BEYOND, HISTORY, PAST, REVISION_AT, after_of
from iii_state_file.queue_thread import in_thread
from iii_state_file.scan_reader import KEYS, OVER, PAGE, SCOPES, ScannedOver
from iii_state_file.scans import Scans
from iii_state_file.store import FileStore

_CLOSE_PATIENCE_SECONDS = 1
"""How long a close waits for the lock of another program."""

_LOW_BYTES = 200 * 1024 * 1024

TRIMS = 4
"""Steps of trimming in one call of `maintain`."""

FAR = 1 << 62
"""After every end."""


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
    expires: ClassVar[bool] = True
    historical: ClassVar[bool] = True
    maintenance_seconds: ClassVar[float | None] = 10.0
    config_type: ClassVar[type[FileConfig]] = FileConfig

    # From `open` on. Keys are cached only from then on, and a call that finds none is refused first.
    _loop: asyncio.AbstractEventLoop
    _store: FileStore
    _batches: Batches
    _ends: Ends
    _keys: KeyCalls
    _scans: Scans

    def __init__(self) -> None:
        self._opening: asyncio.Future[FileStore] | None = None
        self._refusal: tuple[type[AdapterError], str] | None = (AdapterError, "The file adapter is not open.")
        self._cache = KeyCache(0)
        self._listings = Listings(0)
        self._history: History | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, config: FileConfig) -> None:
        """Open or create the store; StoreRefused says what to do when it cannot be used as it is."""
        self._loop = asyncio.get_running_loop()
        now_ms = self.clock.now_ms()
        self._opening = in_thread(lambda: FileStore(config, now_ms))
        store = self._store = await asyncio.shield(self._opening)
        self.data_dir = store.directory.path
        self._cache = KeyCache(config.cache_bytes)
        self._listings = Listings(config.cache_bytes // 2)
        self._batches = Batches(store, self._loop)
        store.start(
            self._loop,
            committed=self._commit_done,
            found=self._rows_found,
            scanned=self._scan_done,
            failed=self._fail,
        )
        self._ends = Ends(store, self.clock, self._batches, self._listings)
        if config.history is not None:
            self._history = History(config.history, self._ends.now_ms, self._batches)
            store.use_history()
        self._keys = KeyCalls(
            store,
            self._loop,
            cache=self._cache,
            listings=self._listings,
            batches=self._batches,
            ends=self._ends,
            history=self._history,
            ended=self._ended,
        )
        self._scans = Scans(self._loop, batches=self._batches, ends=self._ends, listings=self._listings)
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
            if self._keys.reading or not self._batches.all_committed:
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
                    if listing.ends and listing.ends.get(key, FAR) <= self._ends.now_ms():
                        return None
                    return listing.values.get(key)
            return self._after_read(name, None)
        cached.used = True
        batches = self._batches
        value = self._ends.shown(cached) if cached.ends else cached.value
        if cached.batch <= batches.committed:
            return value
        return batches.wait(cached.batch, value, None)

    def set(self, scope: str, key: str, value: bytes) -> Answer[Change]:
        """Store `value`; an end that the key had is gone."""
        return self.update(scope, key, Overwrite(value))

    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run `change` on the current bytes now; the Deferred is settled when the outcome is durable."""
        name = (scope, key)
        cached = self._cache.get(name)
        if cached is None or cached.waiting is not None:
            return self._after_read(name, change)
        cached.used = True
        return self._keys.apply(cached, change, None)

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All pairs of the scope after every write that was accepted before this call."""
        listing = self._listings.get(scope)
        if listing is not None and listing.values is not None:
            listing.used = True
            pairs = listing.pairs(self._ends.over_since())
            batches = self._batches
            return pairs if listing.batch <= batches.committed else batches.wait(listing.batch, pairs, None)
        self._check_open()
        return self._scans.list(scope)

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """All keys of the scope, their values unread."""
        listing = self._listings.get(scope)
        if listing is not None and listing.values is not None:
            listing.used = True
            keys = listing.keys(self._ends.over_since())
            batches = self._batches
            return keys if listing.batch <= batches.committed else batches.wait(listing.batch, keys, None)
        self._check_open()
        return self._scans.ask(KEYS, scope)

    def page(self, scope: str, after: str | None, limit: int) -> Answer[Page]:
        """Pairs behind a position, read without those before it."""
        self._check_open()
        return self._scans.ask(PAGE, scope, after=0 if after is None else int(after), limit=limit)

    def scopes(self) -> Answer[Sequence[str]]:
        """Every scope that holds a key."""
        self._check_open()
        return self._scans.ask(SCOPES, "")

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Answer[Expiry]:
        """Give the key an end, take it away, or tell it, in order with its writes."""
        name = (scope, key)
        cached = self._cache.get(name)
        if cached is None or cached.waiting is not None:
            return self._after_read(name, Expire(at_ms))
        cached.used = True
        return self._keys.expire(cached, at_ms, None)

    def history(self, scope: str, key: str, before: int | None, limit: int) -> Answer[Sequence[Version]]:
        """The last versions of the key, the newest first, after every write that was accepted before."""
        if self._history is None:
            raise no_history(self.name)
        self._check_open()
        bounds = self._history.bounds

        def ask() -> Awaitable[Sequence[Version]]:
            return self._scans.ask(
                HISTORY,
                scope,
                key=key,
                after=BEYOND if before is None else before,
                limit=limit,
                over_since=bounds.since_ms,
                keep=bounds.keep,
            )

        if not self._ends.used:
            return ask()

        async def later() -> Sequence[Version]:
            # Makes the end of a key that is over.
            await settled(self.expire(scope, key, KEEP))
            return await ask()

        return later()

    def moment_at(self, at_ms: int) -> Answer[int]:
        """The last change up to that moment."""
        return self._scan_past(REVISION_AT, at_ms)

    def past(self, moment: int, after: str | None, limit: int) -> Answer[PastPage]:
        """What keys held at a moment, in the order of their names."""
        return self._scan_past(PAST, moment, limit=limit, behind=after_of(after))

    def _scan_past(
        self, query: str, at: int, *, limit: int = 0, behind: tuple[str, str] | None = None
    ) -> asyncio.Future[Any]:
        self._check_open()
        # Who does not note versions can still read them, as long as nothing was changed.
        if self._history is None and not (
            self._store.whole and self._batches.revision == self._store.revision
        ):
            raise no_history(self.name)
        return self._scans.ask(
            query, "", after=min(at, MAX_REVISION), limit=limit, over_since=0, behind=behind
        )

    async def maintain(self) -> None:
        """Drop versions that are not shown any more."""
        # In steps: what is written meanwhile waits for one at most.
        for _ in range(TRIMS):
            if self._history is None or self._refusal is not None:
                return
            self._history.trim()
            batches = self._batches
            await batches.wait(batches.current.number - 1, None, None)

    async def sweep(self) -> int | None:
        """Delete what is over, the oldest ends first, in one batch; when the next key ends."""
        ends = self._ends
        if not ends.used:
            self._check_open()
            return None
        async with ends.sweeping:
            ends.sweep_begins()
            now = ends.now_ms()
            self._check_open()
            found: ScannedOver = await self._scans.ask(OVER, "", limit=SWEPT, over_since=now)
            for answer in [self.expire(scope, key, KEEP) for scope, key in found.names]:
                await settled(answer)
            if len(found.names) < SWEPT:
                ends.swept(found.following)
            return found.following

    def _ended(self, change: Change) -> None:
        if self.on_expired is not None:
            self.on_expired(change)

    def _after_read(self, name: tuple[str, str], change: ChangeFunction | None) -> Answer[Any]:
        self._check_open()
        return self._keys.after_read(name, change)

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
        self._check_open()
        self._store.erased = True

    @property
    def _broken(self) -> bool:
        return self._refusal is not None and self._refusal[0] is StorageFailed

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal[0](self._refusal[1])

    def _commit_done(self, number: int) -> None:
        """Answer everyone who waited for batches up to `number`."""
        if self._broken:
            return
        self._batches.commit_done(number)
        self._keys.evict()
        if self._drained is not None:
            self._check_drained()

    def _rows_found(self, names: Sequence[tuple[str, str]], rows: Sequence[StoredKey | AdapterError]) -> None:
        if self._broken:
            return
        self._keys.found(names, rows, keep=self._refusal is None)
        if self._drained is not None:
            self._check_drained()

    def _scan_done(self, asker: Listing | asyncio.Future[Any], rows: Any) -> None:
        if self._broken:
            return
        self._scans.done(asker, rows, keep=self._refusal is None)
        self._keys.evict()

    def _check_drained(self) -> None:
        if (
            self._drained is not None
            and not (self._keys.reading or self._drained.done())
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
        answers = [*self._batches.abandon(), *self._keys.abandon(), *self._scans.abandon()]
        for answer in answers:
            if not answer.done():
                answer.set_exception(StorageFailed(message))
        self._check_drained()
        if self.on_failure is not None:
            self.on_failure(StorageFailed(message))
