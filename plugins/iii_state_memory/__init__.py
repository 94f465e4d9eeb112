"""The adapter `memory`: dictionaries in the host's process, gone when it ends."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from iii_skill import hookimpl
from iii_skill.adapter import (
    ChangeFunction,
    Expiry,
    HistorySettings,
    Page,
    PastPage,
    StateAdapter,
    Version,
    no_history,
)
from iii_skill.values import KEEP, Change, Durability, Keep
from iii_state_memory.ends import Ends
from iii_state_memory.versions import Versions

_SWEPT = 2_000
"""Keys that end in one call: the event loop is not held for long."""


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept beside the current values."""

    history: HistorySettings | None = None
    """Keep earlier versions of keys (`keep` of each, for `days`); without it none are."""


class MemoryAdapter(StateAdapter):
    """A dictionary per scope; dictionaries keep first-insertion order by themselves."""

    name: ClassVar[str] = "memory"
    durability: ClassVar[Durability] = Durability.NONE
    checked: ClassVar[bool] = True
    expires: ClassVar[bool] = True
    historical: ClassVar[bool] = True
    maintenance_seconds: ClassVar[float | None] = 60.0
    config_type: ClassVar[type[msgspec.Struct]] = MemoryConfig

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, bytes]] = {}
        self._ends = Ends()
        self._versions: Versions | None = None
        self._revision = 0
        self._orders: dict[str, _Order] = {}

    async def open(self, config: Any) -> None:
        """Nothing to open."""
        settings = getattr(config, "history", None)
        if settings is not None:
            self._versions = Versions(settings, self.clock.now_ms)

    async def close(self) -> None:
        """Forget everything."""
        self._scopes.clear()
        self._orders.clear()
        self._ends.clear()

    def get(self, scope: str, key: str) -> bytes | None:
        """The stored bytes or None."""
        keys = self._scopes.get(scope)
        if keys is None or (self._ends and self._is_over(scope, key)):
            return None
        return keys.get(key)

    def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs of the scope in order of first insertion."""
        keys = self._scopes.get(scope, {})
        over = self._over_in(scope)
        return _without(keys, over)

    def keys(self, scope: str) -> Sequence[str]:
        """All keys of the scope in order of first insertion."""
        keys = self._scopes.get(scope, {})
        over = self._over_in(scope)
        return [key for key in keys if key not in over] if over else list(keys)

    def page(self, scope: str, after: str | None, limit: int) -> Page:
        """A page out of the order of the scope, which is kept from its first page on."""
        keys = self._scopes.get(scope, {})
        over = self._over_in(scope)
        if after is None and len(keys) <= limit:
            return Page(_without(keys, over), None, len(keys) - len(over))
        order = self._orders.get(scope)
        if order is None:
            order = self._orders[scope] = _Order(keys)
        found, end = order.following(-math.inf if after is None else int(after), limit, over)
        return Page([(key, keys[key]) for key in found], end, len(keys) - len(over))

    def scopes(self) -> Sequence[str]:
        """Every scope that holds a key."""
        if not self._ends:
            return list(self._scopes)
        return [scope for scope, keys in self._scopes.items() if len(self._over_in(scope)) < len(keys)]

    def set(self, scope: str, key: str, value: bytes) -> Change:
        """Store `value`; an end that the key had is gone."""
        change = self.update(scope, key, lambda _old: value)
        if self._ends:
            self._ends.drop(scope, key)
        return change

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """Run `change` and store the outcome; the event loop is the atomic section."""
        if self._ends and self._is_over(scope, key):
            self._end(scope, key)
        keys = self._scopes.get(scope)
        old = None if keys is None else keys.get(key)
        new = change(old)
        if new is KEEP:
            return Change(scope, key, old, old, 0)
        self._revision += 1
        if new is not None:
            if keys is None:
                keys = self._scopes.setdefault(scope, {})
            keys[key] = new
        elif keys is not None and old is not None:
            del keys[key]
            self._ends.drop(scope, key)
            if not keys:
                del self._scopes[scope]
        if self._orders and (old is None) is not (new is None) and scope in self._orders:
            if scope in self._scopes:
                self._orders[scope].moved(key, None if new is None else self._revision)
            else:
                del self._orders[scope]
        if self._versions is not None and (old is not None or new is not None):
            self._versions.note(scope, key, new, self._revision)
        return Change(scope, key, old, new, self._revision)

    def history(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The last versions of the key, the newest first."""
        if self._versions is None:
            raise no_history(self.name)
        if self._ends and self._is_over(scope, key):
            self._end(scope, key)
        return self._versions.of(scope, key, before, limit)

    async def moment_at(self, at_ms: int) -> int:
        """The last change up to that moment."""
        if self._versions is None:
            raise no_history(self.name)
        return await self._versions.revision_at(at_ms)

    def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        """What keys held at a moment, in the order in which they came."""
        if self._versions is None:
            raise no_history(self.name)
        return self._versions.past(moment, after, limit)

    async def maintain(self) -> None:
        """Drop versions that are not shown any more."""
        if self._versions is not None:
            self._versions.trim()

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Expiry:
        """Give the key an end, take it away, or tell it."""
        ends = self._ends
        if ends and self._is_over(scope, key):
            self._end(scope, key)
        if key not in self._scopes.get(scope, ()):
            return Expiry(False)
        if at_ms is None:
            ends.drop(scope, key)
        elif at_ms is not KEEP:
            ends.put(scope, key, at_ms)
        return Expiry(True, ends.at(scope, key))

    def sweep(self) -> int | None:
        """Delete what is over, some thousand keys at most; when the next one ends."""
        for scope, key in self._ends.over(self.clock.now_ms(), _SWEPT):
            self._end(scope, key)
        return self._ends.next()

    def _end(self, scope: str, key: str) -> None:
        """The end of a key came."""
        self._ends.drop(scope, key)
        change = self.update(scope, key, lambda _old: None)
        if self.on_expired is not None:
            self.on_expired(change)

    def _is_over(self, scope: str, key: str) -> bool:
        at = self._ends.at(scope, key)
        return at is not None and at <= self.clock.now_ms()

    def _over_in(self, scope: str) -> frozenset[str]:
        return self._ends.over_in(scope, self.clock.now_ms()) if self._ends else frozenset()


class _Order:
    """The places of a scope's keys, rising in the order of insertion, so that a page can be found."""

    def __init__(self, keys: Iterable[str]) -> None:
        names = list(keys)
        # Revisions are the places of later keys: those that are there already stand below them all.
        self._line = [(number - len(names), key) for number, key in enumerate(names)]
        self._places = {key: place for place, key in self._line}

    def moved(self, key: str, place: int | None) -> None:
        """The key was made, at this place, or deleted."""
        if place is None:
            del self._places[key]
        else:
            self._places[key] = place
            self._line.append((place, key))
        if len(self._line) > 2 * len(self._places) + 100:
            self._line = [(place, key) for place, key in self._line if self._places.get(key) == place]

    def following(
        self, after: float, limit: int, over: frozenset[str] = frozenset()
    ) -> tuple[list[str], str | None]:
        """The next keys behind a place, and the place of the last; None when no more follow."""
        found: list[str] = []
        last: int | None = None
        for index in range(bisect.bisect_right(self._line, after, key=_place), len(self._line)):
            place, key = self._line[index]
            if self._places.get(key) != place or key in over:
                continue
            if len(found) == limit:
                return found, str(last)
            found.append(key)
            last = place
        return found, None


def _without(keys: dict[str, bytes], over: frozenset[str]) -> list[tuple[str, bytes]]:
    return [pair for pair in keys.items() if pair[0] not in over] if over else list(keys.items())


def _place(entry: tuple[int, str]) -> int:
    return entry[0]


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (MemoryAdapter,)
