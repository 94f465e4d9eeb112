"""Resends: writes that are sent again because the server forgot their script, and reads that overtook them.

Replies of a connection come in order. So when a read is answered, every write that was sent before it and is
to be sent again is known, and is on its way ahead of whatever is sent from now on: the read is asked again
until those have settled. It may then show later writes too. A read that is itself sent again, for it needs a
script as well, has its place behind the writes that were sent again before it. Two writes keep their order
unless another host loads the script just between them; then the earlier one is written last.
"""

from __future__ import annotations

from collections.abc import Hashable


class Resends:
    """The commands of one bucket that are sent again: writes, numbered as they were, and reads that wait."""

    __slots__ = ("_last", "_reads", "_writes")

    def __init__(self) -> None:
        self._writes: dict[Hashable, int] = {}
        self._reads: dict[Hashable, int] = {}
        self._last = 0

    def add(self, write: Hashable) -> None:
        """It is sent again; it keeps the number that it has."""
        if write not in self._writes:
            self._last += 1
            self._writes[write] = self._last

    def add_read(self, read: Hashable) -> None:
        """It is sent again itself: behind the writes of now, not behind later ones."""
        self._reads.setdefault(read, self._last)

    def settled(self, command: Hashable) -> bool:
        """It has been answered, or never will be; True when no other one is on its way again."""
        self._writes.pop(command, None)
        self._reads.pop(command, None)
        return not self._writes and not self._reads

    def overtaken_by(self, read: Hashable) -> bool:
        """True while a write that was sent before the read is on its way again."""
        # The read stays behind the writes that were there when it was answered first, not behind later ones.
        last = self._reads.setdefault(read, self._last)
        return next(iter(self._writes.values()), last + 1) <= last
