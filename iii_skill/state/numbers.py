"""Arithmetic on encoded numbers: integers stay exact, floats stay floats, as the engine does it."""

from __future__ import annotations

from operator import add, sub
from typing import Any

import msgspec

from iii_skill.serde.texts import I64_MIN, U64_MAX

_MINUS = ord("-")


def plus(encoded: bytes, amount: int) -> bytes | None:
    """The encoded sum, or None when an integer would leave the range of i64 and u64.

    An integer stored outside that range already is counted on exactly; the engine had made it a float.
    """
    if encoded.isdigit():
        number = int(encoded)
        total = number + amount
        return b"%d" % total if I64_MIN <= total <= U64_MAX or number > U64_MAX else None
    return _count(add, encoded, amount)


def minus(encoded: bytes, amount: int) -> bytes | None:
    """The encoded difference, with the rules of `plus`; floats are truly subtracted: -0.0 - 0 is -0.0."""
    return _count(sub, encoded, amount)


def _count(operation: Any, encoded: bytes, amount: int) -> bytes | None:
    digits = encoded[1:] if encoded[0] == _MINUS else encoded
    if not digits.isdigit() or encoded == b"-0":
        return msgspec.json.encode(operation(float(encoded), float(amount)))
    number = int(encoded)
    total = operation(number, amount)
    if I64_MIN <= number <= U64_MAX and not I64_MIN <= total <= U64_MAX:
        return None
    return b"%d" % total
