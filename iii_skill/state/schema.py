"""The part of JSON Schema that configuration entries use, with the error texts of the engine's validator.

Keywords are visited in byte order, properties of an instance too. A schema with a keyword that asserts
something and is not known here is refused when it is registered: a check is never silently left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from iii_skill.errors import CallerError
from iii_skill.state.equality import same

_encode = msgspec.json.Encoder(order="sorted").encode

_ANNOTATIONS = frozenset({"$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated"})
_ANNOTATIONS |= {"description", "examples", "format", "readOnly", "title", "writeOnly"}
_STRUCTURE = frozenset({"$ref", "additionalProperties", "properties"})
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class BadSchema(CallerError):
    """The schema itself cannot be used."""

    code = "SCHEMA_INVALID"


class Schema:
    """A compiled schema."""

    def __init__(self, document: Any) -> None:
        self.document = document
        _check_schema(document, document)

    def errors(self, instance: Any) -> list[str]:
        """Everything that is wrong with the instance, in the engine's words; empty when it is valid."""
        return list(self._visit(self.document, instance))

    def _visit(self, schema: Any, instance: Any) -> Iterator[str]:
        if schema is True:
            return
        if schema is False:
            yield f"False schema does not allow {text(instance)}"
            return
        if "$ref" in schema:
            yield from self._visit(_resolve(self.document, schema["$ref"]), instance)
            return
        if isinstance(instance, dict):
            yield from self._object(schema, instance)
        for keyword in sorted(schema):
            check = _CHECKS.get(keyword)
            if check is not None:
                yield from check(self, schema[keyword], instance)

    def _object(self, schema: Mapping[str, Any], instance: Mapping[str, Any]) -> Iterator[str]:
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        unexpected = []
        for name in sorted(instance):
            if name in known:
                yield from self._visit(known[name], instance[name])
            elif others is False:
                unexpected.append(f"'{name}'")
            else:
                yield from self._visit(others, instance[name])
        if unexpected:
            verb = "was" if len(unexpected) == 1 else "were"
            names = ", ".join(unexpected)
            yield f"Additional properties are not allowed ({names} {verb} unexpected)"

    def valid(self, schema: Any, instance: Any) -> bool:
        """True when the instance fits the part of the schema."""
        return next(self._visit(schema, instance), None) is None

    def visit(self, schema: Any, instance: Any) -> Iterator[str]:
        """The errors of the instance against a part of the schema."""
        return self._visit(schema, instance)


Check: TypeAlias = Callable[[Schema, Any, Any], Iterator[str]]


def text(value: Any) -> str:
    """Compact JSON with sorted keys, as it stands in messages."""
    return _encode(value).decode()


def _type(_root: Schema, wanted: str | Sequence[str], instance: Any) -> Iterator[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(_TYPES[name](instance) for name in names):
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
    if _TYPES["number"](instance) and instance % factor:
        yield f"{text(instance)} is not a multiple of {text(factor)}"


def _unique_items(_root: Schema, wanted: bool, instance: Any) -> Iterator[str]:
    if wanted and isinstance(instance, list) and len({text(one) for one in instance}) < len(instance):
        yield f"{text(instance)} has non-unique elements"


def _bound(wrong: Callable[[Any, Any], bool], words: str) -> Check:
    def check(_root: Schema, limit: Any, instance: Any) -> Iterator[str]:
        if _TYPES["number"](instance) and wrong(instance, limit):
            yield f"{text(instance)} is {words} of {text(limit)}"

    return check


def _size(kind: type, wrong: Callable[[int, int], bool], words: str, noun: str) -> Check:
    def check(_root: Schema, limit: int, instance: Any) -> Iterator[str]:
        if isinstance(instance, kind) and wrong(len(instance), limit):  # type: ignore[arg-type]
            yield f"{text(instance)} {words} {limit} {noun if limit == 1 else _PLURALS[noun]}"

    return check


_PLURALS = {
    "character": "characters",
    "item": "items",
    "property": "properties",
}
_CHECKS: Mapping[str, Check] = {
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
    "minLength": _size(str, int.__lt__, "is shorter than", "character"),
    "maxLength": _size(str, int.__gt__, "is longer than", "character"),
    "minItems": _size(list, int.__lt__, "has less than", "item"),
    "maxItems": _size(list, int.__gt__, "has more than", "item"),
    "minProperties": _size(dict, int.__lt__, "has less than", "property"),
    "maxProperties": _size(dict, int.__gt__, "has more than", "property"),
}


def _check_schema(schema: Any, root: Any) -> None:
    """Raise BadSchema for what is no schema or asserts something that is not checked here."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise BadSchema(f"invalid JSON Schema: {text(schema)} is not an object or a boolean")
    if "$ref" in schema:
        _resolve(root, schema["$ref"])
    for keyword, value in schema.items():
        if keyword in _CHECKS or keyword in _ANNOTATIONS or keyword in _STRUCTURE:
            _check_keyword(keyword, value)
        else:
            raise BadSchema(f"invalid JSON Schema: this host does not check the keyword '{keyword}'")
    for part in _parts(schema):
        _check_schema(part, root)


def _check_keyword(keyword: str, value: Any) -> None:
    names = [value] if isinstance(value, str) else value
    if keyword == "type" and not (isinstance(names, list) and all(name in _TYPES for name in names)):
        raise BadSchema(f"invalid JSON Schema: {text(value)} is no type")
    if keyword == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError):
            raise BadSchema(f"invalid JSON Schema: {text(value)} is no pattern") from None


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("properties", "definitions", "$defs"):
        inner = schema.get(keyword, {})
        if not isinstance(inner, dict):
            raise BadSchema(f"invalid JSON Schema: '{keyword}' must be an object")
        yield from inner.values()
    for keyword in ("allOf", "anyOf", "oneOf"):
        inner = schema.get(keyword, [])
        if not isinstance(inner, list):
            raise BadSchema(f"invalid JSON Schema: '{keyword}' must be an array")
        yield from inner
    yield from (schema[keyword] for keyword in ("additionalProperties", "items", "not") if keyword in schema)


def _resolve(root: Any, reference: Any) -> Any:
    node = root
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise BadSchema(f"invalid JSON Schema: the reference {text(reference)} is not inside the schema")
    for segment in filter(None, reference[1:].split("/")):
        name = segment.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node:
            raise BadSchema(f"invalid JSON Schema: the reference {text(reference)} leads nowhere")
        node = node[name]
    return node
