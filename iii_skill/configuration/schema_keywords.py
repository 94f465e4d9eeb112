"""The keywords of JSON Schema that assert something about an instance, with the engine's error texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from operator import gt, lt
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from iii_skill.state.equality import same

if TYPE_CHECKING:
    from iii_skill.configuration.schema import Schema

_encode = msgspec.json.Encoder(order="sorted").encode

Check: TypeAlias = "Callable[[Schema, Any, Any], Iterator[str]]"
"""Gives what is wrong with the instance (last) by the value of the keyword (second)."""

TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def text(value: Any) -> str:
    """Compact JSON with sorted keys, as it stands in messages."""
    return _encode(value).decode()


def _type(_root: Schema, wanted: str | Sequence[str], instance: Any) -> Iterator[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(TYPES[name](instance) for name in names):
        noun = "type" if isinstance(wanted, str) else "types"
        yield f"{text(instance)} is not of {noun} {', '.join(map(text, names))}"


def _enum(_root: Schema, allowed: Sequence[Any], instance: Any) -> Iterator[str]:
    if not any(same(one, instance) for one in allowed):
        yield f"{text(instance)} is not one of {text(allowed)}"


def _const(_root: Schema, wanted: Any, instance: Any) -> Iterator[str]:
    if not same(wanted, instance):
        yield f"{text(wanted)} was expected"


def _required(_root: Schema, names: Sequence[str], instance: Any) -> Iterator[str]:
    if isinstance(instance, dict):
        yield from (f"{text(name)} is a required property" for name in names if name not in instance)


def _all_of(root: Schema, parts: Sequence[Any], instance: Any) -> Iterator[str]:
    for part in parts:
        yield from root.visit(part, instance)


def _any_of(root: Schema, parts: Sequence[Any], instance: Any) -> Iterator[str]:
    if not any(root.valid(part, instance) for part in parts):
        yield f"{text(instance)} is not valid under any of the schemas listed in the 'anyOf' keyword"


def _one_of(root: Schema, parts: Sequence[Any], instance: Any) -> Iterator[str]:
    fitting = sum(root.valid(part, instance) for part in parts)
    if fitting != 1:
        how = "not valid under any" if fitting == 0 else "valid under more than one"
        yield f"{text(instance)} is {how} of the schemas listed in the 'oneOf' keyword"


def _not(root: Schema, part: Any, instance: Any) -> Iterator[str]:
    if root.valid(part, instance):
        yield f"{text(part)} is not allowed for {text(instance)}"


def _items(root: Schema, part: Any, instance: Any) -> Iterator[str]:
    if isinstance(instance, list):
        for one in instance:
            yield from root.visit(part, one)


def _pattern(_root: Schema, pattern: str, instance: Any) -> Iterator[str]:
    if isinstance(instance, str) and re.search(pattern, instance) is None:
        yield f"{text(instance)} does not match {text(pattern)}"


def _multiple_of(_root: Schema, factor: float, instance: Any) -> Iterator[str]:
    if TYPES["number"](instance) and _exact(instance) % _exact(factor):
        yield f"{text(instance)} is not a multiple of {text(factor)}"


def _exact(number: float) -> Fraction:
    """The number as it is written: 0.3 is three times 0.1."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _unique_items(_root: Schema, wanted: bool, instance: Any) -> Iterator[str]:
    if wanted and isinstance(instance, list) and len({text(one) for one in instance}) < len(instance):
        yield f"{text(instance)} has non-unique elements"


def _bound(wrong: Callable[[Any, Any], bool], words: str) -> Check:
    def check(_root: Schema, limit: Any, instance: Any) -> Iterator[str]:
        if TYPES["number"](instance) and wrong(instance, limit):
            yield f"{text(instance)} is {words} of {text(limit)}"

    return check


def _size(kind: type, wrong: Callable[[Any, Any], bool], words: str, noun: str) -> Check:
    def check(_root: Schema, limit: int, instance: Any) -> Iterator[str]:
        if isinstance(instance, kind) and wrong(len(instance), limit):  # type: ignore[arg-type]
            yield f"{text(instance)} {words} {limit} {noun if limit == 1 else _PLURALS[noun]}"

    return check


_PLURALS = {
    "character": "characters",
    "item": "items",
    "property": "properties",
}
CHECKS: Mapping[str, Check] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "items": _items,
    "pattern": _pattern,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
    "minimum": _bound(lambda value, limit: value < limit, "less than the minimum"),
    "maximum": _bound(lambda value, limit: value > limit, "greater than the maximum"),
    "exclusiveMinimum": _bound(lambda value, limit: value <= limit, "less than or equal to the minimum"),
    "exclusiveMaximum": _bound(lambda value, limit: value >= limit, "greater than or equal to the maximum"),
    "minLength": _size(str, lt, "is shorter than", "character"),
    "maxLength": _size(str, gt, "is longer than", "character"),
    "minItems": _size(list, lt, "has less than", "item"),
    "maxItems": _size(list, gt, "has more than", "item"),
    "minProperties": _size(dict, lt, "has less than", "property"),
    "maxProperties": _size(dict, gt, "has more than", "property"),
}
