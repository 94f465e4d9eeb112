"""What a filter finds: operators, absence, numbers, arrays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from iii_skill.filters.filter import Filter

ABSENT = object()


def holds(operators: Any, value: Any) -> bool:
    """Whether `input.a` fulfils the operators when it is `value`."""
    document = {"input": {} if value is ABSENT else {"a": value}}
    return Filter({"input.a": operators}).matches(document)


@pytest.mark.parametrize(
    ("operators", "values"),
    [
        ({"$eq": 1}, {"yes": [1, 1.0], "no": [True, "1", 2, None, [1], ABSENT]}),
        ({"$eq": 0}, {"yes": [0, -0.0], "no": [False, "", None]}),
        ({"$eq": True}, {"yes": [True], "no": [1, "true", False]}),
        ({"$eq": None}, {"yes": [None], "no": [ABSENT, 0, False]}),
        ({"$eq": {"x": 1, "y": [2]}}, {"yes": [{"y": [2.0], "x": 1}], "no": [{"x": 1}]}),
        ({"$eq": {"x": 1}}, {"no": [{"x": 1, "z": 0}]}),
        ({"$ne": 1}, {"yes": [2, "1", True, ABSENT, None], "no": [1, 1.0]}),
        ({"$in": [1, "a", None, [1]]}, {"yes": [1.0, "a", None, [1]], "no": [ABSENT, True, "b", []]}),
        ({"$in": []}, {"no": [1, None, ABSENT]}),
        ({"$nin": [1, "a"]}, {"yes": [2, ABSENT, True, None], "no": [1, "a"]}),
        ({"$gt": 1}, {"yes": [2, 1.5], "no": [1, "2", True, None, ABSENT]}),
        ({"$gte": 1}, {"yes": [1, 1.0], "no": [0]}),
        ({"$lt": "b"}, {"yes": ["a", "", "aé"], "no": ["b", 1, ABSENT]}),
        ({"$lte": "\ue000"}, {"yes": ["\ue000"], "no": ["\U0001f600"]}),
        ({"$exists": True}, {"yes": [None, 0], "no": [ABSENT]}),
        ({"$exists": False}, {"yes": [ABSENT], "no": [None]}),
        ({"$prefix": "ab"}, {"yes": ["ab", "abc"], "no": ["a", ABSENT, ["ab"]]}),
        ({"$any": {"$gt": 1, "$lt": 5}}, {"yes": [[0, 3]], "no": [[0, 6], [], 3, ABSENT]}),
        ({"$any": {"@": {"$eq": 1}}}, {"yes": [[2, 1]], "no": [[2], {"0": 1}]}),
        ({"$any": {"@.x": {"$eq": 1}}}, {"yes": [[0, {"x": 1}]], "no": [{"x": 1}]}),
        ({"$any": {"@.x": {"$eq": 1}, "@.y": {"$eq": 2}}}, {"no": [[{"x": 1}, {"y": 2}]]}),
        ({"$any": {}}, {"yes": [[None]], "no": [[], {}]}),
        ({"$any": {"$any": {"$eq": 1}}}, {"yes": [[[2], [1]]], "no": [[1]]}),
        ({"$eq": 2**53}, {"yes": [2**53 + 1, float(2**53)], "no": [2**53 + 2]}),
        ({"$lt": 5}, {"no": [10**400]}),
        ({"$gt": 5}, {"yes": [10**400], "no": [-(10**400)]}),
    ],
)  # fmt: skip
def test_an_operator_holds_for_these_values_and_not_for_those(
    operators: Any, values: dict[str, list[Any]]
) -> None:
    assert [value for value in values.get("yes", []) if not holds(operators, value)] == []
    assert [value for value in values.get("no", []) if holds(operators, value)] == []


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("input", True),
        ("input.list.0", True),
        ("input.list.1.deep", True),
        ("input.list.01", False),
        ("input.list.2", False),
        ("input.list.-1", False),
        ("input.list.length", False),
        ("input.list.1000000000000000", False),
        ("input.object.0", True),
        ("input.object.a\\.b", True),
        ("input.object.a.b", False),
        ("input.object.c\\\\d", True),
        ("input.text.0", False),
        ("input.none", True),
        ("input.none.a", False),
        ("output", False),
        ("error.code", False),
        ("metadata", True),
    ],
)
def test_a_path_finds_members_and_elements(path: str, found: bool) -> None:
    document = {
        "input": {
            "list": [0, {"deep": 1}],
            "object": {"0": 1, "a.b": 1, "c\\d": 1},
            "text": "abc",
            "none": None,
        },
        "metadata": None,
    }
    assert Filter({path: {"$exists": True}}).matches(document) is found


def test_combinators() -> None:
    a, b = {"input.a": {"$eq": 1}}, {"input.b": {"$eq": 1}}
    document = {"input": {"a": 1}}
    assert Filter({"$or": [a, b]}).matches(document)
    assert not Filter({"$and": [a, b]}).matches(document)
    assert not Filter({**a, **b}).matches(document)
    assert Filter({"$not": b}).matches(document)
    assert not Filter({"$not": {}}).matches(document)
    assert Filter({}).matches({})


def test_the_roots_that_a_filter_reads_are_known() -> None:
    source = {
        "$or": [{"input.a": {"$any": {"@.b": {"$eq": 1}}}}, {"$not": {"caller.worker_name": {"$eq": "w"}}}]
    }
    assert Filter(source).roots == {"input", "caller"}


def test_any_decoded_document_is_taken() -> None:
    compiled = Filter({"input.a.0.b": {"$any": {"@.c": {"$gt": 1}}}, "caller.x": {"$prefix": "y"}})
    for text in (
        b"null",
        b"[]",
        b'"input"',
        b'{"input":[[[]]],"caller":1}',
        b'{"input":{"a":[{"b":[1,null]}]}}',
    ):
        document = msgspec.json.decode(text)
        assert compiled.matches(document if isinstance(document, dict) else {"input": document}) is False
