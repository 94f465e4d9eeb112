"""Swap: what a batch of writes does to one key, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from iii_skill.errors import AdapterError


class Swap(msgspec.Struct, frozen=True, gc=False):
    """What `write` does to one key: store `values` in turn if it holds `base`, or whatever it holds."""

    scope: str
    key: str
    base: bytes | None
    """What the key has to hold; None: it must not be there. Without meaning for an overwrite."""
    values: Sequence[bytes | None]
    """One or more; None deletes. The last one is what the key holds in the end, and each is a Change."""
    overwrite: bool = False
    fresh: bool = False
    """A set or delete is among the changes: the key has no end any more, if it had one."""

    @property
    def key_made(self) -> int | None:
        """Which of the values gives the key a new place in its scope; None when it keeps the one it has. An
        overwrite gives the key a new place only if it is not there."""
        made = None if self.overwrite or self.base is not None else 0
        for number, value in enumerate(self.values[:-1]):
            if value is None:
                made = number + 1
        return made


class Written(msgspec.Struct, frozen=True, gc=False):
    """The swap was carried out: one revision for each of its values, and what an overwrite found."""

    revisions: Sequence[int]
    old: bytes | None = None


class Overtaken(msgspec.Struct, frozen=True, gc=False):
    """The swap was not carried out: the key does not hold `base`, but this."""

    current: bytes | None


Outcome: TypeAlias = Written | Overtaken | AdapterError
"""What became of a swap; an AdapterError for one that the server refused, while others were carried out."""
