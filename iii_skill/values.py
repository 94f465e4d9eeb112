"""The few types that every room shares: Change, KEEP, Durability and the adapter's answer."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

PRIVATE_SCOPES = "__iii_skill/"
"""What the scopes begin with that a companion keeps for itself; `state::*` neither shows nor touches them."""

MAX_REVISION: Final = 2**63 - 1
"""The largest revision: stores keep them in 64 bits with a sign."""

Answer: TypeAlias = T | Awaitable[T]
"""What an adapter method gives back: the value itself, or an awaitable of it (`async def` works)."""


class Keep(enum.Enum):
    """The type of KEEP."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP
"""What a change returns to leave the key as it is."""

ChangeFunction: TypeAlias = Callable[[bytes | None], bytes | Literal[Keep.KEEP] | None]
"""A pure function from the current encoded value (None: no such key) to the new one (None: delete)."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """What one `update` did to one key.

    `old` and `new` are encoded JSON, None where the key did not or does not exist. `revision` rises
    strictly with every change of the key (also with a delete that found nothing); it is 0 when the
    change function returned KEEP, and then `old` and `new` are the same.
    """

    scope: str
    key: str
    old: bytes | None
    new: bytes | None
    revision: int

    @property
    def kept(self) -> bool:
        """True when nothing was changed."""
        return self.revision == 0


class Durability(enum.StrEnum):
    """What an acknowledged write of an adapter survives."""

    NONE = "none"
    """Nothing: it is gone when the host ends."""
    PROCESS = "process"
    """The end of the host (also SIGKILL), not a loss of power."""
    DISK = "disk"
    """SIGKILL and a loss of power: it was flushed to the disk before the answer left."""
    REMOTE = "remote"
    """What the server behind the adapter promises."""
