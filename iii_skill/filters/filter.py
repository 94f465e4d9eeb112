"""Filter: a compiled filter with its normal form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from iii_skill.filters.evaluation import predicate
from iii_skill.filters.language import Clause, Conjunction, Operator, clauses, parse_filter
from iii_skill.filters.normal_form import normal_form
from iii_skill.filters.paths import Document, parse_path


class Filter:
    """What decides whether a call is of interest."""

    __slots__ = ("_holds", "matches_all", "roots", "tree")

    def __init__(self, source: Any, *, written: bool = True) -> None:
        """Raises InvalidFilter; `written` False: `source` is a normal form."""
        self._take(parse_filter(source, written=written))

    @classmethod
    def one_of(cls, values: Mapping[str, Sequence[Any]]) -> Filter:
        """Each path holds one of its values; made by the host, so no limit applies."""
        made = cls.__new__(cls)
        made._take(
            Conjunction(
                tuple(
                    Clause(
                        parse_path(path, inside_any=False),
                        (Operator("$eq", wanted[0]) if len(wanted) == 1 else Operator("$in", list(wanted)),),
                    )
                    for path, wanted in values.items()
                )
            )
        )
        return made

    @property
    def normal(self) -> dict[str, Any]:
        """The normal form."""
        return normal_form(self.tree)

    def _take(self, tree: Conjunction) -> None:
        self.tree = tree
        self.matches_all = not tree.nodes
        self.roots = frozenset(clause.path.root for clause in clauses(tree))
        self._holds = predicate(tree)

    def matches(self, document: Document) -> bool:
        """Whether the parts of a call fulfil it."""
        return self.matches_all or self._holds(document, None)
