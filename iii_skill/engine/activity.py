"""Activity: when the functions of triggers and observers were called last, and how that went.

Nothing is recorded until somebody asks for the first time.
"""

from __future__ import annotations

import time

import msgspec

LONGEST = 500
"""Characters of the text of a failure."""


class Fired(msgspec.Struct):
    """What is known of one trigger or observer; times are ms since 1970."""

    fires: int = 0
    last_fired_ms: int | None = None
    failures: int = 0
    dropped: int = 0
    last_failed_ms: int | None = None
    last_error: str | None = None


class Activity:
    """By id of a trigger or observer what its function was called for, from `since_ms` on."""

    def __init__(self) -> None:
        self.since_ms = _now_ms()
        self.by_id: dict[str, Fired] = {}

    def fired(self, name: str) -> None:
        """Its function is called."""
        found = self._of(name)
        found.fires += 1
        found.last_fired_ms = _now_ms()

    def dropped(self, name: str) -> None:
        """An event for it was dropped."""
        self._of(name).dropped += 1

    def failed(self, name: str, error: str) -> None:
        """Its function, or its condition, failed."""
        found = self._of(name)
        found.failures += 1
        found.last_failed_ms = _now_ms()
        found.last_error = error[:LONGEST]

    def forget(self, name: str) -> None:
        """It has ended."""
        self.by_id.pop(name, None)

    def _of(self, name: str) -> Fired:
        found = self.by_id.get(name)
        if found is None:
            found = self.by_id[name] = Fired()
        return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
