"""Whether a document is a schema of which every assertion is checked here, and where its references lead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from iii_skill.configuration.schema_keywords import CHECKS, TYPES, text
from iii_skill.errors import CallerError

_ANNOTATIONS = frozenset({"$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated"})
_ANNOTATIONS |= {"description", "examples", "format", "readOnly", "title", "writeOnly"}
_STRUCTURE = frozenset({"$ref", "additionalProperties", "properties"})
_SIDE_BY_SIDE = ("allOf", "anyOf", "oneOf")


class BadSchema(CallerError):
    """The schema itself cannot be used."""

    code = "SCHEMA_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid JSON Schema: {reason}")


def check_schema(document: Any) -> None:
    """Raise BadSchema for what is no schema or asserts something that is not checked here."""
    try:
        _check(document, document, set())
        _check_ends(document, document, [], set())
    except RecursionError:
        raise BadSchema("it is nested too deep") from None


def resolve(document: Any, reference: Any) -> Any:
    """The part of the document that a `$ref` names; raises BadSchema when there is none."""
    node = document
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise BadSchema(f"the reference {text(reference)} is not inside the schema")
    for segment in filter(None, reference[1:].split("/")):
        name = segment.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node:
            raise BadSchema(f"the reference {text(reference)} leads nowhere")
        node = node[name]
    return node


def _check(schema: Any, document: Any, known: set[int]) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise BadSchema(f"{text(schema)} is not an object or a boolean")
    if id(schema) in known:
        return
    known.add(id(schema))
    for keyword, value in schema.items():
        if keyword in CHECKS:
            _check_value(keyword, value)
        elif keyword not in _ANNOTATIONS and keyword not in _STRUCTURE:
            raise BadSchema(f"this host does not check the keyword '{keyword}'")
    if "$ref" in schema:
        _check(resolve(document, schema["$ref"]), document, known)
    for part in _parts(schema):
        _check(part, document, known)


def _check_ends(schema: Any, document: Any, above: list[int], known: set[int]) -> None:
    """Raise BadSchema for a schema that leads back to itself before it looks at a part of the instance."""
    if not isinstance(schema, dict) or id(schema) in known:
        return
    if id(schema) in above:
        raise BadSchema("it leads back to itself without end")
    above.append(id(schema))
    if "$ref" in schema:
        _check_ends(resolve(document, schema["$ref"]), document, above, known)
    else:
        for part in (*(part for name in _SIDE_BY_SIDE for part in schema.get(name, ())), schema.get("not")):
            _check_ends(part, document, above, known)
    above.pop()
    known.add(id(schema))
    for part in _parts(schema):
        _check_ends(part, document, above, known)


def _check_value(keyword: str, value: Any) -> None:
    fits, wanted = _VALUES.get(keyword, _ANY)
    if not fits(value):
        raise BadSchema(f"{text(value)} is no value of '{keyword}', which is {wanted}")


def _is_type(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and names != [] and all(isinstance(n, str) and n in TYPES for n in names)


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError, OverflowError, RecursionError):
        return False
    return True


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_count(value: Any) -> bool:
    return TYPES["number"](value) and value >= 0 and value == int(value)


_ANY = (lambda _value: True, "anything")
_COUNT = (_is_count, "a whole number from 0 up")
_NUMBER = (TYPES["number"], "a number")
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one or several of {', '.join(TYPES)}"),
    "enum": (TYPES["array"], "an array"),
    "required": (_is_names, "an array of names"),
    "pattern": (_is_pattern, "a regular expression"),
    "multipleOf": (lambda value: TYPES["number"](value) and value > 0, "a number above 0"),
    "uniqueItems": (TYPES["boolean"], "true or false"),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "minProperties": _COUNT,
    "maxProperties": _COUNT,
}


def _parts(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("properties", "definitions", "$defs"):
        inner = schema.get(keyword, {})
        if not isinstance(inner, dict):
            raise BadSchema(f"'{keyword}' must be an object")
        yield from inner.values()
    for keyword in _SIDE_BY_SIDE:
        inner = schema.get(keyword, [])
        if not isinstance(inner, list):
            raise BadSchema(f"'{keyword}' must be an array")
        yield from inner
    yield from (schema[keyword] for keyword in ("additionalProperties", "items", "not") if keyword in schema)
