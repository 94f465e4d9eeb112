"""Late: writes that are sent again because the server forgot their script, and reads that overtook them.

Replies of a connection come in order. So when a read is answered, every late write that was sent before it is
known, and is on its way ahead of whatever is sent from now on: the read is asked again until those have
arrived. It may then show later writes too. Two writes keep their order unless another host loads the script
just between them; then the earlier one is written last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchanges import Routed


class Late:
    """The late writes of one bucket, numbered as they became late, and the reads that wait for some."""

    __slots__ = ("_last", "_reads", "_writes")

    def __init__(self) -> None:
        self._writes: dict[Routed, int] = {}
        self._reads: dict[Routed, int] = {}
        self._last = 0

    def add(self, write: Routed) -> None:
        """It is sent again; it keeps the number that it has."""
        if write not in self._writes:
            self._last += 1
            self._writes[write] = self._last

    def arrived(self, write: Routed) -> bool:
        """It has been answered, or never will be; True when no other one is late."""
        self._writes.pop(write, None)
        return not self._writes

    def overtaken_by(self, read: Routed) -> bool:
        """True while a write that was sent before the read is late."""
        last = self._reads.setdefault(read, self._last)
        if next(iter(self._writes.values())) <= last:
            return True
        del self._reads[read]
        return False
