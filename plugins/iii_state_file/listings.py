"""Listings: the pairs of scopes that were listed lately, kept current by every write, bounded by bytes.

A scope that is listed for the first time is read by the scan thread. The writes that come meanwhile are noted
and made again on what it read, so that the outcome is right whichever of them the scan saw.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from iii_skill.adapter import Deferred

Pairs: TypeAlias = Sequence[tuple[str, bytes]]

_OVERHEAD = 300
"""Memory for each key beside its text and value, about."""

_CHANCES = 64
"""Second chances in a row before one is dropped anyway."""

_NOTED_BYTES = 8 * 1024 * 1024
"""Writes that are noted for one scan; with more of them it only serves those who wait already."""


class Listing:
    """All pairs of one scope in their order, or the calls that wait until they are read."""

    __slots__ = ("_ended", "_noted", "_rows", "batch", "ends", "scope", "size", "used", "values", "waiting")

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.values: dict[str, bytes] | None = None
        """None while it is read."""
        self.batch = 0
        """The batch of the last write; what the listing shows is durable when that one is committed."""
        self.size = 0
        self.used = False
        """Used since it was last looked at for eviction."""
        self.waiting: list[Deferred[Pairs]] = []
        self._rows: list[tuple[str, bytes]] | None = None
        self._noted: list[tuple[str, bytes | None, bool]] = []
        self.ends: dict[str, int] = {}
        """When keys end, those that do."""
        self._ended: list[tuple[str, int]] = []

    def pairs(self, over_since: int = 0) -> Pairs:
        """All pairs, a list of the caller's own, without those that end at that moment or before."""
        if over_since and self.ends:
            assert self.values is not None
            ends = self.ends
            return [pair for pair in self.values.items() if ends.get(pair[0], over_since + 1) > over_since]
        rows = self._rows
        if rows is None:
            assert self.values is not None
            rows = self._rows = list(self.values.items())
        return rows.copy()

    def keys(self, over_since: int = 0) -> Sequence[str]:
        """All keys, but for those that end at that moment or before."""
        if over_since and self.ends:
            return [key for key in self.values or () if self.ends.get(key, over_since + 1) > over_since]
        return list(self.values or ())

    def end(self, key: str, at_ms: int) -> None:
        """The key got another end; 0: none."""
        if self.values is None:
            self._ended.append((key, at_ms))
        elif at_ms:
            self.ends[key] = at_ms
        else:
            self.ends.pop(key, None)

    def write(self, key: str, old: bytes | None, new: bytes | None) -> int:
        """Take one write over; gives how many bytes more it takes."""
        values = self.values
        self._rows = None
        if values is None:
            # The scan may have seen it or not.
            self._noted.append((key, new, old is None))
            grown = _size(key, new)
        elif new is None:
            del values[key]
            grown = -_size(key, old)
        else:
            # A key that came (again) is not in it, so it goes to the end; an overwrite keeps its place.
            values[key] = new
            grown = len(new) - len(old) if old is not None else _size(key, new)
        self.size += grown
        return grown

    def fill(self, rows: Pairs, ends: dict[str, int]) -> None:
        """What the scan read, with the writes since it was asked for."""
        values = dict(rows)
        for key, new, created in self._noted:
            if new is None:
                values.pop(key, None)
                continue
            if created:
                # Behind all that were there before; those made later follow in their turn.
                values.pop(key, None)
            values[key] = new
        self._noted.clear()
        self.values = values
        self.ends = ends
        for key, at_ms in self._ended:
            self.end(key, at_ms)
        self._ended.clear()
        self.size = sum(map(len, values.values())) + sum(map(len, values)) * 2 + _OVERHEAD * len(values)


def _size(key: str, value: bytes | None) -> int:
    return _OVERHEAD + 2 * len(key) + (0 if value is None else len(value))


class Listings(OrderedDict[str, Listing]):
    """Listings by scope in the order of eviction. `used` is the sum of their sizes."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.used = 0

    def write(self, listing: Listing, key: str, old: bytes | None, new: bytes | None) -> None:
        """One write in a scope that has a listing."""
        self.used += listing.write(key, old, new)
        if listing.values is None and listing.size > _NOTED_BYTES:
            # Whoever lists the scope from now on has it read again, behind these writes.
            self.drop(listing)

    def keep(self, listing: Listing, rows: Pairs, ends: dict[str, int]) -> None:
        """The scan is there: keep the listing if it fits."""
        before = listing.size
        listing.fill(rows, ends)
        if self.get(listing.scope) is not listing:
            return
        self.used += listing.size - before
        if listing.size > self.limit:
            self.drop(listing)
        else:
            self.evict()

    def drop(self, listing: Listing) -> None:
        """Forget one; those who wait for it stay its own."""
        if self.get(listing.scope) is listing:
            del self[listing.scope]
            self.used -= listing.size

    def evict(self) -> None:
        """Drop listings over the limit, those that were not used lately first."""
        chances = _CHANCES
        for _ in range(len(self) + _CHANCES):
            if self.used <= self.limit:
                return
            listing = next(iter(self.values()))
            if listing.values is None or (listing.used and chances > 0):
                # Being read, or used since the last time: to the end.
                listing.used = False
                self.move_to_end(listing.scope)
                chances -= 1
            else:
                self.drop(listing)

    def keep_loading(self) -> None:
        """Forget all but those that are being read."""
        for listing in [*self.values()]:
            if listing.values is not None:
                self.drop(listing)
