"""The normal form of a filter: what hosts are told and introspection shows."""

from __future__ import annotations

from typing import Any

import orjson

from iii_skill.filters.language import Clause, Conjunction, Node, Not, Operator

Source = dict[str, Any]


def normal_form(tree: Conjunction) -> Source:
    """`{}`, or `{"$and": [...]}` of objects with one clause each, sorted, equal ones once.

    Sorted by the key's bytes, then by the operand's canonical JSON. `$or` keeps its order; operands of the
    value operators are as they were written.
    """
    ordered: dict[tuple[bytes, bytes], Source] = {}
    for node in tree.nodes:
        key, operand = _normal(node)
        ordered.setdefault((key.encode(), _canonical(operand)), {key: operand})
    return {"$and": [ordered[place] for place in sorted(ordered)]} if ordered else {}


def _normal(node: Node) -> tuple[str, Any]:
    if isinstance(node, Clause):
        return node.path.text, _operators(node.operators)
    if isinstance(node, Not):
        return "$not", normal_form(node.inner)
    return "$or", [normal_form(branch) for branch in node.branches]


def _operators(operators: tuple[Operator, ...]) -> Source:
    return {
        operator.name: _any(operator.operand) if operator.name == "$any" else operator.operand
        for operator in sorted(operators, key=lambda operator: operator.name)
    }


def _any(element: Conjunction | tuple[Operator, ...]) -> Source:
    return normal_form(element) if isinstance(element, Conjunction) else _operators(element)


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
