"""What every SDK can read back: valid UTF-8, no lone surrogate, doubles, at most MAX_NESTING levels."""

from __future__ import annotations

import functools

import orjson

from iii_skill.errors import ValueRefused

MAX_NESTING = 125
"""Levels of arrays and objects in a value; the frames around it take two more of the 127 that SDKs read."""

WHY_UNREADABLE = (
    "it holds JSON that not every SDK can read (a lone surrogate, a number out of double range, "
    "invalid UTF-8, or more than 125 levels)."
)

_SURELY_FLAT = 2 * MAX_NESTING
"""No level takes less than two bytes."""


def check_value(encoded: bytes) -> None:
    """Accept the encoded JSON of one value; ValueRefused says why it cannot be read back by everyone."""
    check_readable(encoded)
    check_nesting(encoded)


def readable(payload: bytes) -> bool:
    """True when every SDK can read the encoded payload back."""
    try:
        check_value(payload)
    except ValueRefused:
        return False
    return True


def listable(encoded: bytes) -> bool:
    """True for what may stand in a row of a listing, two levels deeper than a payload."""
    return readable(b"[[%b]]" % encoded)


def check_readable(encoded: bytes) -> None:
    """The same without a look at the nesting: valid UTF-8, no lone surrogates, numbers that are doubles."""
    try:
        orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        reason = f"The value is not JSON that every SDK can read back, so it was not stored: {error}."
        raise ValueRefused(reason) from None


def check_nesting(encoded: bytes) -> None:
    """Accept readable JSON of at most MAX_NESTING levels."""
    if len(encoded) <= _SURELY_FLAT:
        return
    if encoded.count(b"[") + encoded.count(b"{") > MAX_NESTING and not fits(encoded, MAX_NESTING):
        raise ValueRefused(
            f"The value is nested deeper than {MAX_NESTING} levels, which not every SDK can read back; "
            "it was not stored."
        )


def fits(encoded: bytes, levels: int) -> bool:
    """True when readable JSON nests at most so many levels: the reader's own limit does the counting."""
    outer = _reader_limit() - levels
    try:
        orjson.loads(b"[" * outer + encoded + b"]" * outer)
    except orjson.JSONDecodeError:
        return False
    return True


@functools.cache
def _reader_limit() -> int:
    """The deepest nesting that orjson reads (1024 in all known versions)."""
    low, high = MAX_NESTING, 1 << 14
    while low < high:
        middle = (low + high + 1) // 2
        try:
            orjson.loads(b"[" * middle + b"]" * middle)
            low = middle
        except orjson.JSONDecodeError:
            high = middle - 1
    return low
