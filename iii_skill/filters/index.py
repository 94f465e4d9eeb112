"""FilterIndex: which of many filters match a document, at the cost of the few that may."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

from iii_skill.filters.equality import as_double, is_number
from iii_skill.filters.filter import Filter
from iii_skill.filters.language import Clause, Operator
from iii_skill.filters.paths import Document, Path, Resolve, resolver

T = TypeVar("T")

Key: TypeAlias = tuple[Hashable, ...]
"""A value for each of the paths of a group."""


class _Entry(Generic[T]):
    __slots__ = ("filter", "item", "number", "place", "surely")

    def __init__(self, item: T, filter_: Filter, number: int) -> None:
        self.item = item
        self.filter = filter_
        self.number = number
        self.place = index_place(filter_)
        # True when the look-up alone decides.
        self.surely = filter_.matches_all or (self.place is not None and self.place.whole)


class _Group(Generic[T]):
    """The filters that want certain values at the same paths."""

    __slots__ = ("buckets", "resolvers")

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.resolvers: list[Resolve] = [resolver(path) for path in paths]
        self.buckets: dict[Key, dict[str, _Entry[T]]] = {}


class FilterIndex(Generic[T]):
    """Items by name, each with its filter. A match is one look-up for each set of paths that filters name
    with `$eq`, and an evaluation only where that does not decide."""

    def __init__(self) -> None:
        self.entries: dict[str, _Entry[T]] = {}
        """By name; empty while there is nothing, which a dictionary says quicker than an index."""
        self._groups: dict[tuple[str, ...], _Group[T]] = {}
        self._others: dict[str, _Entry[T]] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[T]:
        return (entry.item for entry in self.entries.values())

    def add(self, name: str, item: T, filter_: Filter) -> None:
        """Add an item, or replace the one of that name."""
        self.remove(name)
        entry = self.entries[name] = _Entry(item, filter_, next(self._numbers))
        if entry.place is None:
            self._others[name] = entry
            return
        if not entry.place.keys:  # an empty `$in` matches nothing
            return
        texts = tuple(path.text for path in entry.place.paths)
        group = self._groups.get(texts)
        if group is None:
            group = self._groups[texts] = _Group(entry.place.paths)
        for key in entry.place.keys:
            group.buckets.setdefault(key, {})[name] = entry

    def remove(self, name: str) -> None:
        """Remove an item; unknown names are fine."""
        entry = self.entries.pop(name, None)
        if entry is None:
            return
        if entry.place is None:
            del self._others[name]
            return
        if not entry.place.keys:
            return
        texts = tuple(path.text for path in entry.place.paths)
        group = self._groups[texts]
        for key in entry.place.keys:
            bucket = group.buckets[key]
            del bucket[name]
            if not bucket:
                del group.buckets[key]
        if not group.buckets:
            del self._groups[texts]

    def clear(self) -> None:
        self.entries.clear()
        self._groups.clear()
        self._others.clear()

    def matching(self, document: Document) -> list[T]:
        """The items whose filters match, in the order in which they came."""
        found: list[_Entry[T]] = []
        for group in self._groups.values():
            key = tuple([index_key(resolve(document, None)) for resolve in group.resolvers])
            bucket = group.buckets.get(key)
            if bucket is not None:
                for entry in bucket.values():
                    if entry.surely or entry.filter.matches(document):
                        found.append(entry)
        for entry in self._others.values():
            if entry.surely or entry.filter.matches(document):
                found.append(entry)
        if len(found) > 1 and self._groups:
            found.sort(key=_number)
        return [entry.item for entry in found]


class FilterPlace:
    """Where a filter stands in an index; `whole` when nothing but the look-up decides."""

    __slots__ = ("keys", "paths", "whole")

    def __init__(self, paths: tuple[Path, ...], keys: list[Key], *, whole: bool) -> None:
        self.paths = paths
        self.keys = keys
        self.whole = whole


def index_place(filter_: Filter) -> FilterPlace | None:
    """The `$eq`s without which it never matches, else its shortest `$in`; None without either."""
    equal: dict[str, tuple[Path, Hashable]] = {}
    members: list[tuple[Path, list[Key]]] = []
    decided = 0
    for clause, operator in _must_hold(filter_):
        if operator.name == "$eq" and (key := index_key(operator.operand)) is not None:
            if clause.path.text not in equal:
                equal[clause.path.text] = (clause.path, key)
                decided += 1
        elif operator.name == "$in":
            keys = dict.fromkeys((index_key(value),) for value in operator.operand)
            if (None,) not in keys:
                members.append((clause.path, list(keys)))
    nodes = sum(len(node.operators) if isinstance(node, Clause) else 1 for node in filter_.tree.nodes)
    if equal:
        chosen = sorted(equal.values(), key=lambda place: place[0].text)
        key = tuple(value for _, value in chosen)
        return FilterPlace(tuple(path for path, _ in chosen), [key], whole=decided == nodes)
    if members:
        path, keys_ = min(members, key=lambda member: len(member[1]))
        return FilterPlace((path,), keys_, whole=nodes == 1)
    return None


def index_key(value: Any) -> Hashable:
    """What equal scalars have in common and different ones have not; None for everything else."""
    if type(value) is str:
        return value
    if is_number(value):
        return as_double(value)
    if value is None or type(value) is bool:
        return (value,)
    return None


def _must_hold(filter_: Filter) -> Iterator[tuple[Clause, Operator]]:
    for node in filter_.tree.nodes:
        if isinstance(node, Clause):
            for operator in node.operators:
                yield node, operator


def _number(entry: _Entry[Any]) -> int:
    return entry.number
