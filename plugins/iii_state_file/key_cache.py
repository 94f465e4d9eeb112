"""KeyCache: current bytes of recently used keys, bounded by bytes; what was not used lately goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError
from iii_skill.values import ChangeFunction

LOADING: Final = 1 << 62
"""The batch number of a key whose row is still being read: above every committed one."""

_OVERHEAD = 560

_CHANCES = 64
"""Second chances in a row before one is dropped anyway: eviction never walks through the whole cache."""


class CachedKey:
    """What is known of one key: its current value (None: no such key), which may not be committed yet."""

    __slots__ = (
        "batch",
        "before",
        "ends",
        "key",
        "pending",
        "position",
        "revision",
        "scope",
        "start",
        "stored",
        "stored_end",
        "used",
        "value",
        "version",
        "waiting",
    )

    def __init__(self, scope: str, key: str) -> None:
        self.scope = scope
        self.key = key
        self.value: bytes | None = None
        self.position = 0
        """The place in `list`, the revision that made the key; 0 while there is no such key."""
        self.stored = 0
        """The position that the database holds after every batch handed over so far."""
        self.revision = 0
        """The one of the last write."""
        self.version = 0
        """The revision of its last version that was handed over, where they are kept; 0: there is none."""
        self.pending = 0
        """The revision of one that this tick made and that is not handed over; 0: there is none."""
        self.before: bytes | None = None
        """What that one replaced, if it is large."""
        self.ends = 0
        """When it ends, in ms since 1970; 0: never."""
        self.stored_end = 0
        """The position under which the database holds an end of it, as `stored` counts; 0: none."""
        self.start = 0
        """What its checksums start from."""
        self.used = False
        """Used since it was last looked at for eviction."""
        self.batch = LOADING
        """The batch of the last write; the value is durable when that one is committed."""
        self.waiting: list[tuple[Deferred[Any], ChangeFunction | None]] | None = []
        """Calls that came before the row was read, in order; None afterwards."""

    def size(self) -> int:
        """The memory that it takes, about."""
        value = self.value
        return _OVERHEAD + 2 * (len(self.scope) + len(self.key)) + (0 if value is None else len(value))


class KeyCache(OrderedDict[tuple[str, str], CachedKey]):
    """Keys by (scope, key) in the order of eviction. `used` is kept by whoever changes a value.

    A key that was used since eviction last came by gets a second chance at the end of the queue (the clock
    algorithm): a hit costs one store instead of a move.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.used = 0

    def evict(self, committed: int, limit: int) -> None:
        """Drop keys over this limit, oldest first, up to one that is not durable yet."""
        chances = _CHANCES
        while self.used > limit and self:
            name, cached = next(iter(self.items()))
            if cached.batch > committed:
                # Its row is being read or its value is not on the disk: nobody could read it again. The next
                # commit comes by here.
                return
            if cached.used and chances:
                # Used since the last time: to the end, and from now on it has to be used again to stay.
                cached.used = False
                self.move_to_end(name)
                chances -= 1
            else:
                # Not used, or so many in a row were that the search would cost more than a wrong choice.
                del self[name]
                self.used -= cached.size()
                chances = _CHANCES

    def keep_loading(self) -> None:
        """Forget all but those whose row is being read; nothing is lost, a batch holds what it writes."""
        for name, cached in list(self.items()):
            if cached.waiting is None:
                del self[name]

    def abandon(self) -> list[Deferred[Any]]:
        """Forget all; gives those who waited for their rows."""
        answers = [answer for cached in self.values() for answer, _ in cached.waiting or ()]
        self.clear()
        return answers


def check_name(*names: str) -> None:
    """AdapterError for a scope or key that SQLite cannot hold."""
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError:
        raise AdapterError(
            "A scope or key with a lone surrogate cannot be stored: use whole characters."
        ) from None


def name_size(scope: str, key: str) -> int:
    """The most bytes that a name can take."""
    return 4 * (len(scope) + len(key))
