"""How large a value may be: the configured limit on every way to write one, and a bound where none is set."""

from __future__ import annotations

import msgspec

from iii_skill.errors import ValueRefused, ValueTooLarge
from iii_skill.json_slices import SLICE, compact_size

LARGEST = 64 * 1024 * 1024 - 64 * 1024
"""The bound where none is configured: a larger one fits into no message, so nobody could read it back."""

MOST_CONFIGURED = 512 * 1024 * 1024
"""No setting goes beyond this: stores have limits of their own, and what passes them stops a host."""

MOST_PARTS = 8_000_000
"""Arrays, objects and fields of a value that may still be taken apart."""

MOST_COMPARED = 1_000_000
"""Parts of two values that are compared one by one."""

SURELY_FEW = 1024 * 1024
"""Bytes that are neither too many nor in too many parts."""

_MOST_SAVED = 8
"""Compact JSON that is smaller than this part of what was sent is measured as it was sent."""

_encode = msgspec.json.Encoder().encode


def check_size(value: bytes, limit: int | None, *, old: bytes | None = None) -> None:
    """Accept the encoded value; ValueTooLarge names its size. What does not grow may stay as it is."""
    bound = LARGEST if limit is None else min(limit, MOST_CONFIGURED)
    if len(value) <= bound and (limit is None or len(value) > SLICE or len(value) * _MOST_SAVED <= bound):
        return
    size = _compact(value, bound)
    if size <= bound or (old is not None and len(value) <= len(old)):
        return
    if limit is None:
        raise ValueTooLarge(f"value of {size} bytes exceeds the {bound} bytes that fit into a message")
    raise ValueTooLarge(f"value of {size} bytes exceeds the configured max_value_bytes limit of {bound}")


def _compact(value: bytes, bound: int) -> int:
    """Bytes of the value as compact JSON in UTF-8."""
    if len(value) <= SLICE:
        return len(_encode(msgspec.json.decode(value)))
    if len(value) <= bound or len(value) > _MOST_SAVED * bound:
        return len(value)
    return compact_size(value)


def check_parts(value: bytes, what: str) -> None:
    """Accept a value that can be taken apart without holding everybody up; ValueRefused says what to do."""
    if len(value) <= SURELY_FEW:
        return
    # Each may stand in a string, so these are upper bounds, counted at the speed of memory.
    parts = value.count(b"[") + value.count(b"{") + value.count(b":")
    if parts > MOST_PARTS:
        raise ValueRefused(
            f"a value of {len(value)} bytes in more than {MOST_PARTS} arrays, objects and fields cannot be "
            f"{what}: replace it with state::set, or spread it over several keys"
        )


def check_comparable(left: bytes, right: bytes) -> None:
    """Accept two values whose comparison takes no longer than a turn may."""
    if len(left) + len(right) <= SURELY_FEW:
        return
    parts = sum(value.count(mark) for value in (left, right) for mark in (b",", b"[", b"{"))
    if parts > MOST_COMPARED:
        raise ValueRefused(
            f"values in together more than {MOST_COMPARED} parts, not written alike, cannot be compared: "
            "keep a version number beside them and compare that"
        )
