"""The filter language: source to a tree, every rule and every limit checked.

A filter is an object of `path: {operator: operand, ...}`, of which all must hold; `{}` matches all.
`$and`, `$or` (non-empty arrays of filters) and `$not` (a filter) combine. Paths start with a root; inside
`$any` with `@`, the element. The limits bound what one filter may cost to keep and to evaluate.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

from iii_skill.filters.equality import is_number
from iii_skill.filters.errors import InvalidFilter
from iii_skill.filters.paths import Path, parse_path

MOST_BYTES: Final = 8192
"""Of the filter as written, in compact JSON."""
MOST_FILTER_DEPTH: Final = 8
MOST_NODES: Final = 64
"""Operators, `$or`s and `$not`s."""
MOST_ITEMS: Final = 256
"""Of one `$in` or `$nin`."""
MOST_LITERAL_DEPTH: Final = 32
MOST_LEVELS: Final = 120
LARGEST_NUMBER: Final = 2**53

ORDERS: Final = ("$gt", "$gte", "$lt", "$lte")
OPERATORS: Final = ("$eq", "$ne", "$in", "$nin", *ORDERS, "$exists", "$prefix", "$any")


class Operator(msgspec.Struct, frozen=True, gc=False):
    """`$gt: 5`; the operand of `$any` is a tree: operators of the element, or a filter over it."""

    name: str
    operand: Any


class Clause(msgspec.Struct, frozen=True, gc=False):
    """`input.n: {$gt: 5, $lt: 9}`."""

    path: Path
    operators: tuple[Operator, ...]


class Not(msgspec.Struct, frozen=True, gc=False):
    """`$not`: plain negation."""

    inner: Conjunction


class Or(msgspec.Struct, frozen=True, gc=False):
    """`$or`, in the order in which it was written."""

    branches: tuple[Conjunction, ...]


Node: TypeAlias = Clause | Not | Or


class Conjunction(msgspec.Struct, frozen=True, gc=False):
    """A filter: all of its nodes hold; `$and`s are dissolved in it."""

    nodes: tuple[Node, ...]


Element: TypeAlias = Conjunction | tuple[Operator, ...]
"""The operand of `$any`."""


def parse_filter(source: Any, *, written: bool = True) -> Conjunction:
    """The tree of a decoded filter; raises InvalidFilter.

    `written` False: it is in normal form already, which may be longer than what was written.
    """
    _check_json(source)
    if written and len(msgspec.json.encode(source)) > MOST_BYTES:
        raise InvalidFilter(f"filters longer than {MOST_BYTES} bytes")
    return _Parser().filter(source, 1, inside_any=False)


def clauses(tree: Element) -> Iterator[Clause]:
    """Every clause of a tree, those inside `$any` left out."""
    for node in tree.nodes if isinstance(tree, Conjunction) else ():
        if isinstance(node, Clause):
            yield node
        elif isinstance(node, Not):
            yield from clauses(node.inner)
        else:
            for branch in node.branches:
                yield from clauses(branch)


class _Parser:
    def __init__(self) -> None:
        self._nodes = 0

    def filter(self, source: Any, depth: int, *, inside_any: bool) -> Conjunction:
        if depth > MOST_FILTER_DEPTH:
            raise InvalidFilter(f"filters nested deeper than {MOST_FILTER_DEPTH} levels")
        if type(source) is not dict:
            raise InvalidFilter(f"a filter is an object, found {_kind(source)}")
        nodes: list[Node] = []
        for key, value in source.items():
            if key == "$and":
                # Not one deeper: `$and` is what an object means anyway.
                for branch in _branches(key, value):
                    nodes += self.filter(branch, depth, inside_any=inside_any).nodes
            elif key == "$or":
                self._count()
                branches = [
                    self.filter(branch, depth + 1, inside_any=inside_any) for branch in _branches(key, value)
                ]
                nodes.append(Or(tuple(branches)))
            elif key == "$not":
                self._count()
                nodes.append(Not(self.filter(value, depth + 1, inside_any=inside_any)))
            elif key in OPERATORS:
                raise InvalidFilter(f"`{key}` belongs into the operator object of a path")
            elif key.startswith("$"):
                raise InvalidFilter(f"unknown operator `{key}`")
            else:
                path = parse_path(key, inside_any=inside_any)
                nodes.append(Clause(path, self._operators(key, value, depth)))
        return Conjunction(tuple(nodes))

    def _operators(self, at: str, value: Any, depth: int) -> tuple[Operator, ...]:
        if type(value) is not dict or not value or not any(key.startswith("$") for key in value):
            raise InvalidFilter(
                f'`{at}`: expected an operator object such as {{"$eq": ...}}; literal values are not allowed'
            )
        return tuple(self._operator(at, name, operand, depth) for name, operand in value.items())

    def _operator(self, at: str, name: str, operand: Any, depth: int) -> Operator:
        if name not in OPERATORS:
            raise InvalidFilter(f"`{at}`: unknown operator `{name}`")
        self._count()
        if name == "$any":
            return Operator(name, self._element(at, operand, depth + 1))
        if name in ("$in", "$nin"):
            if type(operand) is not list:
                raise _wrong(at, name, "an array", operand)
            if len(operand) > MOST_ITEMS:
                raise InvalidFilter(f"`{at}`: `{name}` takes at most {MOST_ITEMS} items")
        elif name in ORDERS and not (is_number(operand) or type(operand) is str):
            raise _wrong(at, name, "a number or a string", operand)
        elif name == "$exists" and type(operand) is not bool:
            raise _wrong(at, name, "true or false", operand)
        elif name == "$prefix" and type(operand) is not str:
            raise _wrong(at, name, "a string", operand)
        for literal in operand if name in ("$in", "$nin") else (operand,):
            if _levels(literal, MOST_LITERAL_DEPTH) > MOST_LITERAL_DEPTH:
                raise InvalidFilter(f"`{at}`: a literal nested deeper than {MOST_LITERAL_DEPTH} levels")
        return Operator(name, operand)

    def _element(self, at: str, operand: Any, depth: int) -> Element:
        if type(operand) is not dict:
            raise _wrong(at, "$any", "an object", operand)
        if operand and all(key in OPERATORS for key in operand):
            if depth > MOST_FILTER_DEPTH:
                raise InvalidFilter(f"filters nested deeper than {MOST_FILTER_DEPTH} levels")
            return self._operators(at, operand, depth)
        return self.filter(operand, depth, inside_any=True)

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise InvalidFilter(f"more than {MOST_NODES} operator / clause nodes")


def _branches(name: str, value: Any) -> list[Any]:
    if type(value) is not list or not value:
        raise InvalidFilter(f"`{name}` takes a non-empty array of filters")
    return value


def _wrong(at: str, name: str, expected: str, found: Any) -> InvalidFilter:
    return InvalidFilter(f"`{at}`: `{name}` takes {expected}, found {_kind(found)}")


_KINDS: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _levels(value: Any, enough: int) -> int:
    """How many arrays and objects are inside each other, counted until it is more than `enough`."""
    level, inner = 0, [value]
    while level <= enough:
        inner = [item for container in inner if type(container) in (dict, list) for item in [container]]
        if not inner:
            return level
        level += 1
        inner = [
            child
            for container in inner
            for child in (container.values() if type(container) is dict else container)
        ]
    return level


def _check_json(source: Any) -> None:
    """Levels and numbers of the whole, before anything recurses into it."""
    if _levels(source, MOST_LEVELS) > MOST_LEVELS:
        raise InvalidFilter(f"filters nested deeper than {MOST_LEVELS} levels of JSON")
    left = [source]
    while left:
        value = left.pop()
        if type(value) is dict:
            left += value.values()
        elif type(value) is list:
            left += value
        elif is_number(value) and not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            raise InvalidFilter(f"the number {value} is beyond 2^53, where doubles are not exact")
