"""KeyCalls: calls on single keys, run on the cached value of their key or queued behind the read of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

from iii_skill.adapter import Deferred, Expiry
from iii_skill.errors import AdapterError
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Keep
from iii_state_file.batches import Batches, Raised
from iii_state_file.checksums import name_checksum
from iii_state_file.ends import Ends, Expire, Overwrite, gone
from iii_state_file.history import History
from iii_state_file.key_cache import CachedKey, KeyCache, check_name, name_size
from iii_state_file.key_reader import StoredKey
from iii_state_file.listings import Listings
from iii_state_file.store import FileStore


class KeyCalls:
    """The cached keys of an open store, what runs on them, and who waits until one is read."""

    def __init__(
        self,
        store: FileStore,
        loop: asyncio.AbstractEventLoop,
        *,
        cache: KeyCache,
        listings: Listings,
        batches: Batches,
        ends: Ends,
        history: History | None,
        ended: Callable[[Change], None],
    ) -> None:
        """`ended` is told the end of a key that came, once it is durable."""
        self._store = store
        self._loop = loop
        self._cache = cache
        self._listings = listings
        self._batches = batches
        self._ends = ends
        self._history = history
        self._ended = ended
        self._plenty = store.longest // 2
        """The size below which no value needs a second look."""
        self._missing: list[tuple[str, str]] = []
        self.reading = 0
        """Keys whose rows were asked for and are not there yet."""

    def apply(
        self, cached: CachedKey, change: ChangeFunction, answer: Deferred[Any] | None
    ) -> Answer[Change]:
        """Run one change on a key that is read; gives the outcome itself where it is durable already."""
        if cached.ends and self._ends.is_over(cached):
            self._end(cached)
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
        if cached.ends and (new is None or change.__class__ is Overwrite):
            # A delete and a `set` take the end away with the value, any other change leaves it.
            self._ends.give(cached, 0)
        batches.revision = revision = batches.revision + 1
        if self._history is not None and (new is not None or old is not None):
            # Before the key is changed: the version that is noted is the one that goes.
            self._history.note(cached, revision)
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
        if self._listings:
            listing = self._listings.get(cached.scope)
            if listing is not None and (new is not None or old is not None):
                listing.batch = current.number
                self._listings.write(listing, cached.key, old, new)
        if answer is None:
            answer = Deferred()
        current.answers.append((answer, Change(cached.scope, cached.key, old, new, revision)))
        return answer

    def expire(
        self, cached: CachedKey, at_ms: int | Literal[Keep.KEEP] | None, answer: Deferred[Any] | None
    ) -> Answer[Expiry]:
        """Give a key that is read an end, take it away, or tell it."""
        if cached.ends and self._ends.is_over(cached):
            self._end(cached)
        expiry = Expiry(False)
        if cached.value is not None:
            if at_ms is not KEEP:
                # 0 stands for no end, so one that lies before 1970 is the first moment after that.
                at = 0 if at_ms is None else max(1, at_ms)
                if at != cached.ends:
                    self._ends.give(cached, at)
            expiry = Expiry(True, cached.ends or None)
        if cached.batch > self._batches.committed:
            return self._batches.wait(cached.batch, expiry, answer)
        if answer is None:
            return expiry
        answer.set_result(expiry)
        return answer

    def _end(self, cached: CachedKey) -> None:
        """The end of a key came: a delete of its own, told before whoever writes the key next is answered."""
        answer: Deferred[Change] = Deferred()
        # Whoever waits hears of a store that failed in another way.
        answer.listen(self._ended, lambda ended, change: ended(change), lambda _ended, _error: None)
        # First of all: what has no end cannot be over again in `apply`.
        self._ends.give(cached, 0)
        self.apply(cached, gone, answer)

    def _run(self, cached: CachedKey, change: ChangeFunction, answer: Deferred[Any] | None) -> Answer[Any]:
        """A call that waited until its key was read."""
        if isinstance(change, Expire):
            return self.expire(cached, change.at_ms, answer)
        return self.apply(cached, change, answer)

    def after_read(self, name: tuple[str, str], change: ChangeFunction | None) -> Answer[Any]:
        """Queue a call behind the read of its key; None is a get."""
        cached = self._cache.get(name)
        if cached is None:
            check_name(*name)
            if name_size(*name) > self._plenty:
                raise AdapterError("Scope and key are too long for the store: use shorter ones.")
            cached = self._cache[name] = CachedKey(*name)
            listing = self._listings.get(name[0])
            if (
                change is not None
                and self._history is None
                and listing is not None
                and listing.values is not None
                and name[1] not in listing.values
            ):
                # A listing knows which keys there are not. (Where versions are kept, one that is gone may
                # have some, and only its row tells the last one.)
                cached.start, cached.batch, cached.waiting = name_checksum(*name), 0, None
                self._cache.used += cached.size()
                return self._run(cached, change, None)
            # The first call for the key starts the read, in one question with all others of this tick.
            if not self._missing:
                self._loop.call_soon(self._read)
            self._missing.append(name)
            self.reading += 1
        assert cached.waiting is not None
        answer: Deferred[Any] = Deferred()
        cached.waiting.append((answer, change))
        return answer

    def _read(self) -> None:
        """Hand over the keys that this tick of the loop asked for in vain."""
        if self._missing:
            self._store.read(self._missing)
            self._missing = []

    def found(
        self, names: Sequence[tuple[str, str]], rows: Sequence[StoredKey | AdapterError], *, keep: bool
    ) -> None:
        """Fill in the keys that were read and run the calls that waited for them.

        Without `keep`, while the store closes, a key goes as soon as those who wait for it have run.
        """
        self.reading -= len(names)
        cache, batches = self._cache, self._batches
        for name, row in zip(names, rows, strict=True):
            cached = cache[name] if keep else cache.pop(name)
            if isinstance(row, AdapterError):
                # Only those who asked learn it; the next call tries again.
                cache.pop(name, None)
                for answer, _ in cached.waiting or ():
                    answer.set_exception(row)
                continue
            cached.start, cached.position, cached.revision, cached.value = row[:4]
            cached.ends, cached.version = row[4:]
            cached.stored = cached.position
            cached.stored_end = cached.position if cached.ends else 0
            cached.batch = 0
            cache.used += cached.size()
            # Calls that listeners make meanwhile go to the end of the queue.
            for answer, change in cached.waiting or ():
                if change is not None:
                    self._run(cached, change, answer)
                    continue
                value = self._ends.shown(cached) if cached.ends else cached.value
                if cached.batch > batches.committed:
                    # A call before it in the queue wrote the key.
                    batches.wait(cached.batch, value, answer)
                else:
                    answer.set_result(value)
            cached.waiting = None
        self.evict()

    def evict(self) -> None:
        """Keep keys and listings, which share one limit, within it."""
        cache, listings = self._cache, self._listings
        if listings.used > listings.limit:
            listings.evict()
        if cache.used + listings.used > cache.limit:
            cache.evict(self._batches.committed, cache.limit - listings.used)

    def abandon(self) -> list[Deferred[Any]]:
        """Forget all keys; gives those who waited for their rows."""
        self._missing.clear()
        self.reading = 0
        return self._cache.abandon()

    def _check_size(self, cached: CachedKey, value: bytes) -> None:
        room = self._store.longest - name_size(cached.scope, cached.key)
        if len(value) > room:
            raise AdapterError(
                f"The value would take {len(value)} bytes, and the store holds at most {room} under that "
                "key: split it over several keys."
            )
