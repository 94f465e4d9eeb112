"""JSON equality of the filter language: deep, key order free, numbers as doubles, no coercion."""

from __future__ import annotations

import math
from typing import Any


def is_number(value: Any) -> bool:
    """Booleans are no numbers."""
    return type(value) is int or type(value) is float


def as_double(number: int | float) -> float:
    """The nearest double; integers beyond its range are infinite."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def json_equal(value: Any, literal: Any) -> bool:
    """Whether two decoded values are the same JSON; recursion is bounded by the depth of `literal`."""
    kind = type(literal)
    if kind is int or kind is float:
        return is_number(value) and as_double(value) == as_double(literal)
    if type(value) is not kind:
        return False
    if kind is dict:
        return value.keys() == literal.keys() and all(
            json_equal(value[name], wanted) for name, wanted in literal.items()
        )
    if kind is list:
        return len(value) == len(literal) and all(map(json_equal, value, literal))
    return bool(value == literal)
