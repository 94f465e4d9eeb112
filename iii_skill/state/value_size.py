"""How large a value may be: the configured limit on every way to write one, and a bound where none is set."""

from __future__ import annotations

import msgspec

from iii_skill.errors import ValueTooLarge
from iii_skill.json_slices import SLICE, compact_size

LARGEST = 64 * 1024 * 1024 - 64 * 1024
"""The bound where none is configured: a larger one fits into no message, so nobody could read it back."""

MOST_CONFIGURED = 512 * 1024 * 1024
"""No setting goes beyond this: stores have limits of their own, and what passes them stops a host."""

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
