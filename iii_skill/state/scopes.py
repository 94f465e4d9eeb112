"""Scope names: the reserved ones, and those that were emptied while the host runs."""

from __future__ import annotations

from collections.abc import Iterator

from iii_skill.state.errors import ReservedScope
from iii_skill.values import PRIVATE_SCOPES

_BOOKKEEPING = frozenset({"state_barrier", "__state_private_namespaces"})
"""Bookkeeping of the separate `state` worker, which a shared store may hold."""

MAX_REMEMBERED = 10_000


def is_reserved(scope: str) -> bool:
    """True for bookkeeping: of the separate worker, or of a companion of this host."""
    return scope in _BOOKKEEPING or scope.startswith(PRIVATE_SCOPES)


def check_scope(scope: str) -> None:
    """Refuse a reserved scope."""
    if scope in _BOOKKEEPING or scope.startswith(PRIVATE_SCOPES):
        raise ReservedScope(scope)


class EmptiedScopes:
    """Scopes that lost a key and stay listed while the process lives; the oldest make room."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, scope: str) -> None:
        """Remember a scope."""
        self._names[scope] = None
        if len(self._names) > MAX_REMEMBERED:
            del self._names[next(iter(self._names))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)
