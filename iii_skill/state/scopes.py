"""Scope names: the reserved ones, and those that were emptied while the host runs."""

from __future__ import annotations

from collections.abc import Iterator

from iii_skill.state.errors import ReservedScope
from iii_skill.values import PRIVATE_SCOPES

_BOOKKEEPING = frozenset({"state_barrier", "__state_private_namespaces"})
"""Bookkeeping of the separate `state` worker, which a shared store may hold."""

MAX_REMEMBERED_BYTES = 4 * 1024 * 1024
"""What the names of emptied scopes may have together."""

_PER_NAME = 128

ACCEPTED: set[str] = set()
"""Scopes that `check_scope` let pass lately: looking there first costs less than asking it."""

_MOST_ACCEPTED, _SHORT = 1000, 256


def is_reserved(scope: str) -> bool:
    """True for bookkeeping: of the separate worker, or of a companion of this host."""
    return scope in _BOOKKEEPING or scope.startswith(PRIVATE_SCOPES)


def check_scope(scope: str) -> None:
    """Refuse a reserved scope."""
    if scope in _BOOKKEEPING or scope.startswith(PRIVATE_SCOPES):
        raise ReservedScope(scope)
    if len(scope) <= _SHORT:
        if len(ACCEPTED) >= _MOST_ACCEPTED:
            ACCEPTED.clear()
        ACCEPTED.add(scope)


class EmptiedScopes:
    """Scopes that lost a key and stay listed while the process lives; the oldest make room."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._bytes = 0

    def add(self, scope: str) -> None:
        """Remember a scope."""
        if scope in self._names:
            return
        self._names[scope] = None
        self._bytes += _cost(scope)
        while self._bytes > MAX_REMEMBERED_BYTES:
            oldest = next(iter(self._names))
            del self._names[oldest]
            self._bytes -= _cost(oldest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def _cost(name: str) -> int:
    """Bytes that a name takes at most: no character of a string has more than four."""
    return _PER_NAME + (len(name) if name.isascii() else 4 * len(name))
