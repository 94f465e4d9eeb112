"""Filters as predicates: what each operator says about a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from iii_skill.filters.equality import as_double, is_number, json_equal
from iii_skill.filters.language import Clause, Conjunction, Node, Not, Operator
from iii_skill.filters.paths import ABSENT, Document, resolver

Predicate: TypeAlias = Callable[[Document, Any], bool]
"""Of a document and the current element of `$any`."""

Test: TypeAlias = Callable[[Any, Document], bool]
"""Of the value at a path, which may be ABSENT; the document is for a filter inside `$any`."""


def predicate(tree: Conjunction) -> Predicate:
    """Whether a document fulfils the filter; never raises."""
    return _all([_node(node) for node in tree.nodes])


def _node(node: Node) -> Predicate:
    if isinstance(node, Clause):
        return _clause(node)
    if isinstance(node, Not):
        inner = predicate(node.inner)
        return lambda document, element: not inner(document, element)
    branches = [predicate(branch) for branch in node.branches]
    return lambda document, element: any(branch(document, element) for branch in branches)


def _all(parts: Sequence[Predicate]) -> Predicate:
    if len(parts) == 1:
        return parts[0]
    return lambda document, element: all(part(document, element) for part in parts)


def _clause(clause: Clause) -> Predicate:
    resolve, tests = resolver(clause.path), _tests(clause.operators)
    if len(tests) == 1:
        test = tests[0]
        return lambda document, element: test(resolve(document, element), document)

    def all_hold(document: Document, element: Any) -> bool:
        value = resolve(document, element)
        return all(test(value, document) for test in tests)

    return all_hold


def _tests(operators: Sequence[Operator]) -> list[Test]:
    return [_OPERATORS[operator.name](operator.operand) for operator in operators]


def _equal(literal: Any) -> Test:
    if type(literal) is str:
        return lambda value, _document: type(value) is str and value == literal
    return lambda value, _document: json_equal(value, literal)


def _in(literals: list[Any]) -> Test:
    strings = frozenset(literal for literal in literals if type(literal) is str)
    numbers = frozenset(as_double(literal) for literal in literals if is_number(literal))
    others = [literal for literal in literals if type(literal) is not str and not is_number(literal)]

    def member(value: Any, _document: Document) -> bool:
        if type(value) is str:
            return value in strings
        if is_number(value):
            return as_double(value) in numbers
        return any(json_equal(value, literal) for literal in others)

    return member


def _not(test: Test) -> Test:
    return lambda value, document: not test(value, document)


def _exists(wanted: bool) -> Test:
    return lambda value, _document: (value is not ABSENT) is wanted


def _prefix(prefix: str) -> Test:
    return lambda value, _document: type(value) is str and value.startswith(prefix)


def _order(holds: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    def operator(operand: int | float | str) -> Test:
        if type(operand) is str:
            # Python compares strings by code point, as the language does.
            return lambda value, _document: type(value) is str and holds(value, operand)
        limit = as_double(operand)  # type: ignore[arg-type]
        return lambda value, _document: is_number(value) and holds(as_double(value), limit)

    return operator


def _any(element: Conjunction | tuple[Operator, ...]) -> Test:
    if isinstance(element, Conjunction):
        holds = predicate(element)
        return lambda value, document: type(value) is list and any(holds(document, item) for item in value)
    tests = _tests(element)
    return lambda value, document: (
        type(value) is list and any(all(test(item, document) for test in tests) for item in value)
    )


_OPERATORS: dict[str, Callable[[Any], Test]] = {
    "$eq": _equal,
    "$ne": lambda literal: _not(_equal(literal)),
    "$in": _in,
    "$nin": lambda literals: _not(_in(literals)),
    "$gt": _order(lambda value, limit: value > limit),
    "$gte": _order(lambda value, limit: value >= limit),
    "$lt": _order(lambda value, limit: value < limit),
    "$lte": _order(lambda value, limit: value <= limit),
    "$exists": _exists,
    "$prefix": _prefix,
    "$any": _any,
}
