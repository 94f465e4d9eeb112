"""Filter: a compiled filter, with its normal form and what an index can use of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from iii_skill.filters.equality import as_double, is_number
from iii_skill.filters.evaluation import predicate
from iii_skill.filters.language import Clause, Conjunction, clauses, parse_filter
from iii_skill.filters.normal_form import normal_form
from iii_skill.filters.paths import Document, Path


class Filter:
    """What decides whether a call is of interest."""

    __slots__ = ("_holds", "matches_all", "normal", "roots", "tree")

    def __init__(self, source: Any, *, written: bool = True) -> None:
        """Raises InvalidFilter; `written` False: `source` is a normal form."""
        tree = parse_filter(source, written=written)
        self.tree = tree
        self.normal = normal_form(tree)
        self.matches_all = not tree.nodes
        self.roots = frozenset(clause.path.root for clause in clauses(tree))
        self._holds = predicate(tree)

    def matches(self, document: Document) -> bool:
        """Whether the parts of a call fulfil it."""
        return self.matches_all or self._holds(document, None)


def index_entry(tree: Conjunction) -> tuple[Path, tuple[Hashable, ...]] | None:
    """A `$eq` or `$in` of scalars without which the filter never matches: path and the keys of its values."""
    best: tuple[Path, tuple[Hashable, ...]] | None = None
    for node in tree.nodes:
        if not isinstance(node, Clause):
            continue
        for operator in node.operators:
            if operator.name not in ("$eq", "$in"):
                continue
            values = [operator.operand] if operator.name == "$eq" else operator.operand
            keys = tuple({index_key(value): None for value in values})
            if None not in keys and (best is None or len(keys) < len(best[1])):
                best = (node.path, keys)
    return best


def index_key(value: Any) -> Hashable:
    """What equal scalars have in common and different ones have not; None for arrays and objects."""
    if type(value) is str:
        return value
    if is_number(value):
        return as_double(value)
    if value is None or type(value) is bool:
        return (value,)
    return None
