"""Where the paths of a filter lead in the schemas of its source: nowhere, somewhere, or nobody can say.

Followed are `properties`, a schema in `additionalProperties`, `items` for an index and for `$any`, a local
`$ref`, an `allOf` of one, and `anyOf` or `oneOf` of one and null. A path that leaves a closed schema is
refused; one that goes on where the schema is open, or where a keyword decides that is not followed, is taken
with a warning. `error`, `caller` and `metadata` have no schema.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from iii_skill.filters.errors import InvalidFilterPath
from iii_skill.filters.language import Clause, Conjunction, Element, Not, Operator
from iii_skill.filters.paths import index_of

MOST_REFERENCES: Final = 32

_FORMATS: Final = {"input": "request_format", "output": "response_format"}

_STRUCTURE: Final = ("properties", "patternProperties", "additionalProperties", "items", "type", "required")
"""Beside a reference they say more than the reference does."""

_NOT_FOLLOWED: Final = (
    *("$ref", "allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "prefixItems"),
    *("dependentSchemas", "unevaluatedProperties"),
)


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a walk stands: how messages call it, and its schema."""

    shown: str
    schema: Any


def check_paths(tree: Conjunction, request_format: Any, response_format: Any) -> list[str]:
    """Warnings, each once; raises InvalidFilterPath. A format that is None is not checked."""
    formats = {"input": request_format, "output": response_format}
    warnings: dict[str, None] = {}
    for root, document in formats.items():
        if document is not None:
            walk = _Walk(document, _FORMATS[root])
            for warning in walk.check(tree, root, _Place(root, document)):
                warnings[warning] = None
    return list(warnings)


class _Walk:
    """Through one document, which local references point into."""

    def __init__(self, document: Any, name: str) -> None:
        self._document = document
        self._name = name

    def check(self, tree: Conjunction, root: str, start: _Place) -> Iterator[str]:
        for node in tree.nodes:
            if isinstance(node, Clause):
                if node.path.root == root:
                    yield from self._clause(node, start)
            else:
                for inner in (node.inner,) if isinstance(node, Not) else node.branches:
                    yield from self.check(inner, root, start)

    def _clause(self, clause: Clause, start: _Place) -> Iterator[str]:
        place, whole = start, ".".join([start.shown, *clause.path.written_segments])
        for segment, written in zip(clause.path.segments, clause.path.written_segments, strict=True):
            found = self._step(place, segment, written)
            if isinstance(found, str):
                yield f"{whole}: {self._name} {found}"
                return
            place = found
        yield from self._operators(clause.operators, place)

    def _operators(self, operators: tuple[Operator, ...], place: _Place) -> Iterator[str]:
        for operator in operators:
            if operator.name == "$any":
                yield from self._element(operator.operand, place)

    def _element(self, element: Element, place: _Place) -> Iterator[str]:
        schema = self._resolved(place.schema)
        items = schema.get("items") if isinstance(schema, dict) else schema
        shown = f"{place.shown}[*]"
        if isinstance(items, dict | bool):
            inside = _Place(shown, items)
        else:
            # Nothing is known of the elements: what is open is the array.
            inside = _Place(shown, _Opaque(self._why_open(schema, place.shown)))
        if isinstance(element, Conjunction):
            yield from self.check(element, "@", inside)
        else:
            yield from self._operators(element, inside)

    def _step(self, place: _Place, segment: str, written: str) -> _Place | str:
        """One segment further, or why that cannot be said; raises InvalidFilterPath."""
        shown = f"{place.shown}.{written}"
        schema = self._resolved(place.schema)
        if isinstance(schema, _Opaque):
            return schema.why
        if schema is False:
            raise InvalidFilterPath(f"{shown} is not in {self._name}")
        next_schema: Any = None
        if isinstance(schema, dict):
            types = _types(schema)
            next_schema = _member(schema, segment)
            if next_schema is None and index_of(segment) is not None and (not types or "array" in types):
                next_schema = schema.get("items")
            if not isinstance(next_schema, dict | bool):
                unknown = _not_followed(schema)
                if unknown is not None:
                    return f"uses `{unknown}` at {place.shown}; path not verified"
                if types and not any(_reaches(kind, segment) for kind in types):
                    declared = " or ".join(types)
                    return f"declares {place.shown} as {declared}; the path is always absent"
                next_schema = schema.get("additionalProperties")
        if next_schema is False or (isinstance(next_schema, dict) and self._resolved(next_schema) is False):
            raise InvalidFilterPath(f"{shown} is not in {self._name}")
        if isinstance(next_schema, dict) or (next_schema is True and _member(schema, segment) is True):
            return _Place(shown, next_schema)
        return self._why_open(schema, place.shown)

    def _why_open(self, schema: Any, shown: str) -> str:
        if isinstance(schema, _Opaque):
            return schema.why
        unknown = _not_followed(schema) if isinstance(schema, dict) else None
        if unknown is not None:
            return f"uses `{unknown}` at {shown}; path not verified"
        where = "" if shown in _FORMATS else f" at {shown}"
        return f"is open{where}; path not verified"

    def _resolved(self, schema: Any) -> Any:
        """The schema that a reference or a combinator of one stands for; itself when there is none."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(schema, dict) or any(name in schema for name in _STRUCTURE):
                return schema
            followed = _only(schema)
            if followed is None:
                return schema
            if isinstance(followed, str):
                target = _pointed_at(self._document, followed)
                if target is None or target is schema:
                    return schema
                schema = target
            else:
                schema = followed
        return schema


class _Opaque(msgspec.Struct, frozen=True, gc=False):
    """In place of a schema: nothing is known, and why."""

    why: str


def _only(schema: dict[str, Any]) -> Any:
    """What the one reference or combinator of a schema leads to; a string is a reference."""
    used = [name for name in _NOT_FOLLOWED if name in schema]
    if used == ["$ref"]:
        return schema["$ref"] if isinstance(schema["$ref"], str) else None
    if len(used) != 1 or used[0] not in ("allOf", "anyOf", "oneOf"):
        return None
    branches = schema[used[0]]
    if not isinstance(branches, list):
        return None
    if used[0] != "allOf":
        branches = [branch for branch in branches if branch != {"type": "null"}]
    return branches[0] if len(branches) == 1 and isinstance(branches[0], dict) else None


def _pointed_at(document: Any, reference: str) -> Any:
    """What a local reference points at, None when there is nothing."""
    pointer, hash_, fragment = reference.partition("#")
    if pointer or not hash_ or (fragment and not fragment.startswith("/")):
        return None
    found = document
    for part in urllib.parse.unquote(fragment).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and (index := index_of(name)) is not None and index < len(found):
            found = found[index]
        else:
            return None
    return found


def _member(schema: Any, name: str) -> Any:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties.get(name) if isinstance(properties, dict) else None


def _types(schema: dict[str, Any]) -> list[str]:
    kinds = schema.get("type")
    named = kinds if isinstance(kinds, list) else [kinds]
    return [kind for kind in named if isinstance(kind, str) and kind != "null"]


def _reaches(kind: str, segment: str) -> bool:
    return kind == "object" or (kind == "array" and index_of(segment) is not None)


def _not_followed(schema: dict[str, Any]) -> str | None:
    return next((name for name in _NOT_FOLLOWED if name in schema), None)
