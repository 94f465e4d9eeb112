"""What every SDK can read: the rule for JSON that a worker registers and that others are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Readable: TypeAlias = Callable[[bytes], bool]
"""True for a payload that every SDK can read."""

WHY_UNREADABLE = (
    "it holds JSON that not every SDK can read (a lone surrogate, a number out of double range, "
    "invalid UTF-8, or more than 125 levels)."
)


def listable(readable: Readable, encoded: bytes) -> bool:
    """True for what may stand in a row of a listing, two levels deeper than a payload."""
    return readable(b"[[%b]]" % encoded)
