"""FilterIndex finds what filters match, whatever it looks up instead of evaluating."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.filter_cases import cases

from iii_skill.filters.errors import InvalidFilter
from iii_skill.filters.filter import Filter
from iii_skill.filters.index import FilterIndex, index_key, index_place


@pytest.mark.parametrize(
    ("source", "paths", "keys", "whole"),
    [
        ({"input.k": {"$eq": "x"}}, ["input.k"], [["x"]], True),
        ({"input.k": {"$eq": "x"}, "input.a": {"$eq": 1}}, ["input.a", "input.k"], [[1, "x"]], True),
        ({"$and": [{"input.k": {"$in": [1, 1.0, 2]}}]}, ["input.k"], [[1], [2]], True),
        ({"input.k": {"$in": ["a", "b"]}, "input.n": {"$gt": 1, "$eq": 2}}, ["input.n"], [[2]], False),
        ({"input.k": {"$in": ["a", "b"]}, "input.n": {"$in": [1]}}, ["input.n"], [[1]], False),
        ({"input.k": {"$eq": None}}, ["input.k"], [[None]], True),
        ({"$and": [{"input.k": {"$eq": 1}}, {"input.k": {"$eq": 2}}]}, ["input.k"], [[1]], False),
        ({"input.k": {"$in": []}}, ["input.k"], [], True),
    ],
)
def test_equalities_that_must_hold_are_looked_up(
    source: Any, paths: list[str], keys: list[Any], whole: bool
) -> None:
    place = index_place(Filter(source))
    assert place is not None
    assert [path.text for path in place.paths] == paths
    assert place.keys == [tuple(map(index_key, key)) for key in keys]
    assert place.whole is whole


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"input.k": {"$ne": 1}},
        {"$or": [{"input.k": {"$eq": 1}}]},
        {"$not": {"input.k": {"$eq": 1}}},
        {"input.k": {"$eq": [1]}},
        {"input.k": {"$in": [1, {}]}},
    ],
)
def test_what_need_not_hold_is_evaluated(source: Any) -> None:
    assert index_place(Filter(source)) is None


def test_booleans_and_numbers_are_different_keys() -> None:
    assert len({index_key(value) for value in (1, True, "1", None, 0, False)}) == 6
    assert index_key(1) == index_key(1.0)


def test_random_filters_match_in_the_index_as_they_do_alone() -> None:
    index: FilterIndex[int] = FilterIndex()
    filters: dict[int, Filter] = {}
    documents = []
    made = msgspec.json.decode(msgspec.json.encode(list(cases(1500, seed=7))))
    for number, case in enumerate(made):
        try:
            filters[number] = Filter(case["filter"])
        except InvalidFilter:
            continue
        index.add(str(number), number, filters[number])
        documents += case["documents"][:1]
    for gone in list(filters)[::3]:
        index.remove(str(gone))
        del filters[gone]
    assert len(index) == len(filters)
    for document in documents:
        alone = [number for number, filter_ in filters.items() if filter_.matches(document)]
        assert index.matching(document) == alone
    for number in filters:
        index.remove(str(number))
    assert index.matching(documents[0]) == []
    assert len(index) == 0


def test_a_name_is_replaced_and_the_order_is_that_of_coming() -> None:
    index: FilterIndex[str] = FilterIndex()
    index.add("a", "a", Filter({"input.k": {"$eq": 1}}))
    index.add("b", "b", Filter({}))
    index.add("c", "c", Filter({"input.k": {"$in": [1, 2]}}))
    assert index.matching({"input": {"k": 1}}) == ["a", "b", "c"]
    index.add("a", "a again", Filter({"input.k": {"$eq": 2}}))
    assert index.matching({"input": {"k": 1}}) == ["b", "c"]
    assert index.matching({"input": {"k": 2}}) == ["b", "c", "a again"]
    index.remove("nobody")
    index.clear()
    assert index.matching({"input": {"k": 2}}) == []


def test_filters_of_the_host_have_no_limits() -> None:
    long = "x" * 20_000
    made = Filter.one_of({"input.scope": [long], "input.type": ["a", "b"]})
    assert made.matches({"input": {"scope": long, "type": "b"}})
    assert not made.matches({"input": {"scope": long, "type": "c"}})
    assert Filter.one_of({}).matches_all
