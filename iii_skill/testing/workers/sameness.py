"""Sameness: what work on two keys left, compared as if the keys were one."""

from __future__ import annotations

from typing import Any


def same(one: Any, key: str, other: Any, other_key: str) -> bool:
    """True when both are the same JSON but for the two keys, as values and as names of members."""
    if type(one) is not type(other):
        return False
    if isinstance(one, str):
        return bool(one == other) or (one == key and other == other_key)
    if isinstance(one, dict):
        named = {other_key if name == key else name: value for name, value in one.items()}
        return named.keys() == other.keys() and all(
            same(value, key, other[name], other_key) for name, value in named.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(
            same(a, key, b, other_key) for a, b in zip(one, other, strict=True)
        )
    return bool(one == other)


def renamed(value: Any, key: str, new: str) -> Any:
    """The value with one key in place of the other."""
    if isinstance(value, str):
        return new if value == key else value
    if isinstance(value, dict):
        return {new if name == key else name: renamed(part, key, new) for name, part in value.items()}
    if isinstance(value, list):
        return [renamed(part, key, new) for part in value]
    return value


def brief(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"
