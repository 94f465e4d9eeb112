"""State: what a test puts into an engine's state, and what it finds there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

Contents: TypeAlias = "Mapping[str, Mapping[str, Any]]"
"""Values by scope and key."""


class State:
    """Writes are those of any caller: they fire events and triggers. Faults spare them."""

    def __init__(self, call: Callable[[str, Any], Any]) -> None:
        self._call = call

    def get(self, scope: str, key: str) -> Any:
        """The value; None also when there is none."""
        return self._call("state::get", {"scope": scope, "key": key})

    def set(self, scope: str, key: str, value: Any) -> None:
        """Store a value."""
        self._call("state::set", {"scope": scope, "key": key, "value": value})

    def delete(self, scope: str, key: str) -> None:
        """Remove a key, if it is there."""
        self._call("state::delete", {"scope": scope, "key": key})

    def list(self, scope: str) -> dict[str, Any]:
        """The values of a scope by key, in order of first insertion."""
        found: dict[str, Any] = {}
        cursor = None
        while True:
            page = self._page(scope, 1000, cursor)
            found.update((key, value) for key, value in page["entries"])
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def scopes(self) -> tuple[str, ...]:
        """The scopes that hold a key."""
        return tuple(scope for scope in self._groups() if self._page(scope, 1)["total"])

    def load(self, contents: Contents) -> None:
        """Store many values; others stay."""
        for scope, values in contents.items():
            for key, value in values.items():
                self.set(scope, key, value)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """All that is there."""
        found = ((scope, self.list(scope)) for scope in self._groups())
        return {scope: values for scope, values in found if values}

    def restore(self, contents: Contents) -> None:
        """Make it all as in `contents`; only what differs is written."""
        now = self.snapshot()
        for scope, values in now.items():
            for key in values.keys() - contents.get(scope, {}).keys():
                self.delete(scope, key)
        for scope, wanted in contents.items():
            there = now.get(scope, {})
            for key, value in wanted.items():
                if key not in there or not _same(there[key], value):
                    self.set(scope, key, value)

    def _groups(self) -> Sequence[str]:
        """The scopes, also those that were emptied."""
        return sorted(self._call("state::list_groups", {})["groups"])

    def _page(self, scope: str, limit: int, cursor: str | None = None) -> Any:
        asked = {"scope": scope, "limit": limit, "max_bytes": 8_000_000}
        return self._call("state::list_entries", asked | ({} if cursor is None else {"cursor": cursor}))


def _same(one: Any, other: Any) -> bool:
    """True when both are the same JSON: `1`, `1.0` and `true` are three values, unlike in Python."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
