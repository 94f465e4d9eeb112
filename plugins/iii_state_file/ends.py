"""Ends: when keys end, as far as the event loop knows; costs nothing until the first key has an end."""

from __future__ import annotations

import asyncio
import math
from typing import Literal

from iii_skill.adapter import Clock
from iii_skill.values import Keep
from iii_state_file.batches import Batches
from iii_state_file.key_cache import CachedKey
from iii_state_file.listings import Listings
from iii_state_file.store import FileStore

SWEPT = 1024
"""Keys that end in one call: the commit of so many is not long."""


class Overwrite:
    """The change of a `set`: what is there does not matter, and its end goes with it."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __call__(self, _old: bytes | None) -> bytes:
        return self.value


class Expire:
    """What waits for the row of its key to give that an end."""

    __slots__ = ("at_ms",)

    def __init__(self, at_ms: int | Literal[Keep.KEEP] | None) -> None:
        self.at_ms = at_ms

    def __call__(self, _old: bytes | None) -> Keep:
        raise NotImplementedError  # It is no change, and stands where one can.


def gone(_old: bytes | None) -> None:
    """The change of a key whose end came."""


class Ends:
    """Gives keys their ends and tells what is over."""

    def __init__(self, store: FileStore, clock: Clock, batches: Batches, listings: Listings) -> None:
        self._store = store
        self.now_ms = clock.now_ms
        """The present moment."""
        self._batches = batches
        self._listings = listings
        self.used = False
        """False as long as no key of the store ever had an end."""
        self._first: float = math.inf
        """No key ends before."""
        self._given: float = math.inf
        """The first end that was given since the sweep began that is under way."""
        self.sweeping = asyncio.Lock()
        if store.first_end is not None:
            self._use()
            self._first = store.first_end

    def _use(self) -> None:
        self.used = True
        self._store.use_ends()

    def over_since(self) -> int:
        """The present moment if some key may be over and still there, else 0."""
        if not self.used:
            return 0
        now = self.now_ms()
        return now if self._first <= now else 0

    def is_over(self, cached: CachedKey) -> bool:
        """Whether the end of a key has come that has one."""
        return cached.ends <= self.now_ms()

    def shown(self, cached: CachedKey) -> bytes | None:
        """The value of a key that has an end."""
        return None if self.is_over(cached) else cached.value

    def give(self, cached: CachedKey, at_ms: int) -> None:
        """Give the key an end, in the batch that takes writes; 0: take it away."""
        if not self.used:
            self._use()
        cached.ends = at_ms
        self._batches.change_end(cached)
        listing = self._listings.get(cached.scope)
        if listing is not None:
            listing.batch = cached.batch
            listing.end(cached.key, at_ms)
        if at_ms:
            self._first = min(self._first, at_ms)
            self._given = min(self._given, at_ms)

    def sweep_begins(self) -> None:
        """From now on it is noted what is given."""
        self._given = math.inf

    def swept(self, following: int | None) -> None:
        """All that was over is deleted, and the next end that was found is this."""
        self._first = min(self._given, math.inf if following is None else following)
