"""Equality of two encoded JSON values, as compare-and-set needs it."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def equal(left: bytes, right: bytes) -> bool:
    """Deep and on parsed JSON: key order is ignored, `1` differs from `1.0`, `-0.0` equals `0.0`."""
    return left == right or same(_decode(left), _decode(right))


def same(left: Any, right: Any) -> bool:
    """Strict equality of two decoded values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
