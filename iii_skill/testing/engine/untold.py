"""Untold: own writes whose event the stream of a shared store still has to tell."""

from __future__ import annotations

from collections import OrderedDict

from iii_skill.values import Change

_KEEP = 100_000
"""Keys whose last event is remembered."""


class Untold:
    """The answer of a write and its event come in any order; the events of a key in that of its revisions."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], int] = {}
        """The last promised revision of each key whose event did not come yet."""
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()

    def promised(self, change: Change) -> None:
        """A write was answered: its event is to come, unless it was here already."""
        place = (change.scope, change.key)
        if change.revision > self._told.get(place, 0):
            self.waiting[place] = max(change.revision, self.waiting.get(place, 0))

    def told(self, change: Change) -> None:
        """An event came."""
        place = (change.scope, change.key)
        self._told[place] = change.revision
        self._told.move_to_end(place)
        if len(self._told) > _KEEP:
            self._told.popitem(last=False)
        if change.revision >= self.waiting.get(place, 0):
            self.waiting.pop(place, None)

    def forget(self) -> None:
        """Nothing is to come any more."""
        self.waiting.clear()
        self._told.clear()
