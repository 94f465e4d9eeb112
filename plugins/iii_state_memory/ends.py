"""Ends: when keys end, found by key and in the order of their moments."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

_NONE: Mapping[str, int] = {}


class Ends:
    """The ends of all keys, in ms since 1970. False while there is none."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, int]] = {}
        self._queue: list[tuple[int, str, str]] = []
        """A heap; what was given another end since, or none, is left in it until it comes up."""
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def at(self, scope: str, key: str) -> int | None:
        """When the key ends."""
        return self._scopes.get(scope, _NONE).get(key)

    def put(self, scope: str, key: str, at_ms: int) -> None:
        """Give the key an end, in place of the one that it has."""
        self.drop(scope, key)
        self._scopes.setdefault(scope, {})[key] = at_ms
        self._count += 1
        heapq.heappush(self._queue, (at_ms, scope, key))
        if len(self._queue) > 2 * self._count + 100:
            self._queue = [entry for entry in self._queue if self._holds(entry)]
            heapq.heapify(self._queue)

    def drop(self, scope: str, key: str) -> None:
        """Take the end of the key away, if it has one."""
        keys = self._scopes.get(scope)
        if keys is not None and keys.pop(key, None) is not None:
            self._count -= 1
            if not keys:
                del self._scopes[scope]

    def next(self) -> int | None:
        """The first moment at which a key ends."""
        queue = self._queue
        while queue and not self._holds(queue[0]):
            heapq.heappop(queue)
        return queue[0][0] if queue else None

    def over(self, now_ms: int, limit: int) -> Sequence[tuple[str, str]]:
        """Scope and key of what is over, the oldest first; they are not in the queue any more."""
        found: list[tuple[str, str]] = []
        while len(found) < limit and (first := self.next()) is not None and first <= now_ms:
            _, scope, key = heapq.heappop(self._queue)
            found.append((scope, key))
        return found

    def over_in(self, scope: str, now_ms: int) -> frozenset[str]:
        """The keys of a scope that are over; costs nothing unless a key of some scope is."""
        first = self.next()
        if first is None or first > now_ms or scope not in self._scopes:
            return frozenset()
        return frozenset(key for key, at in self._scopes[scope].items() if at <= now_ms)

    def clear(self) -> None:
        self._scopes.clear()
        self._queue.clear()
        self._count = 0

    def _holds(self, entry: tuple[int, str, str]) -> bool:
        at, scope, key = entry
        return self.at(scope, key) == at
