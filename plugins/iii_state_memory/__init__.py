"""The adapter `memory`: dictionaries in the host's process, gone when it ends."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from iii_skill import hookimpl
from iii_skill.adapter import ChangeFunction, Page, StateAdapter
from iii_skill.values import KEEP, Change, Durability


class MemoryAdapter(StateAdapter):
    """A dictionary per scope; dictionaries keep first-insertion order by themselves."""

    name: ClassVar[str] = "memory"
    durability: ClassVar[Durability] = Durability.NONE
    checked: ClassVar[bool] = True

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, bytes]] = {}
        self._revision = 0
        self._orders: dict[str, _Order] = {}

    async def open(self, config: Any) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Forget everything."""
        self._scopes.clear()
        self._orders.clear()

    def get(self, scope: str, key: str) -> bytes | None:
        """The stored bytes or None."""
        keys = self._scopes.get(scope)
        return None if keys is None else keys.get(key)

    def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs of the scope in order of first insertion."""
        return list(self._scopes.get(scope, {}).items())

    def keys(self, scope: str) -> Sequence[str]:
        """All keys of the scope in order of first insertion."""
        return list(self._scopes.get(scope, {}))

    def page(self, scope: str, after: str | None, limit: int) -> Page:
        """A page out of the order of the scope, which is kept from its first page on."""
        keys = self._scopes.get(scope, {})
        if after is None and len(keys) <= limit:
            return Page(list(keys.items()), None, len(keys))
        order = self._orders.get(scope)
        if order is None:
            order = self._orders[scope] = _Order(keys)
        found, end = order.following(-math.inf if after is None else int(after), limit)
        return Page([(key, keys[key]) for key in found], end, len(keys))

    def scopes(self) -> Sequence[str]:
        """Every scope that holds a key."""
        return list(self._scopes)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """Run `change` and store the outcome; the event loop is the atomic section."""
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
            if not keys:
                del self._scopes[scope]
        if self._orders and (old is None) is not (new is None) and scope in self._orders:
            if scope in self._scopes:
                self._orders[scope].moved(key, None if new is None else self._revision)
            else:
                del self._orders[scope]
        return Change(scope, key, old, new, self._revision)


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

    def following(self, after: float, limit: int) -> tuple[list[str], str | None]:
        """The next keys behind a place, and the place of the last; None when no more follow."""
        found: list[str] = []
        last: int | None = None
        for index in range(bisect.bisect_right(self._line, after, key=_place), len(self._line)):
            place, key = self._line[index]
            if self._places.get(key) != place:
                continue
            if len(found) == limit:
                return found, str(last)
            found.append(key)
            last = place
        return found, None


def _place(entry: tuple[int, str]) -> int:
    return entry[0]


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (MemoryAdapter,)
