"""What a filter may say: rules, limits and the sentences that refuse it."""

from __future__ import annotations

from typing import Any

import pytest

from iii_skill.filters.errors import InvalidFilter
from iii_skill.filters.filter import Filter

A = {"input.a": {"$eq": 1}}


def refusal(source: Any) -> str:
    with pytest.raises(InvalidFilter) as refused:
        Filter(source)
    assert refused.value.code == "INVALID_FILTER"
    return refused.value.message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            {"input.op": "insert"},
            '`input.op`: expected an operator object such as {"$eq": ...}; literal values',
        ),
        ({"input.op": {}}, "`input.op`: expected an operator object"),
        ({"input.op": {"name": 1}}, "`input.op`: expected an operator object"),
        ({"input.op": {"$like": "x"}}, "`input.op`: unknown operator `$like`"),
        ({"input.op": {"$eq": 1, "x": 1}}, "`input.op`: unknown operator `x`"),
        ({"$eq": 1}, "`$eq` belongs into the operator object of a path"),
        ({"$nor": [A]}, "unknown operator `$nor`"),
        ({"$or": []}, "`$or` takes a non-empty array of filters"),
        ({"$and": A}, "`$and` takes a non-empty array of filters"),
        ({"$not": [A]}, "a filter is an object, found an array"),
        (None, "a filter is an object, found null"),
        ({"input.a": {"$in": "x"}}, "`input.a`: `$in` takes an array, found a string"),
        ({"input.a": {"$nin": None}}, "`input.a`: `$nin` takes an array, found null"),
        ({"input.a": {"$gt": True}}, "`input.a`: `$gt` takes a number or a string, found a boolean"),
        ({"input.a": {"$lte": [1]}}, "`input.a`: `$lte` takes a number or a string, found an array"),
        ({"input.a": {"$exists": 1}}, "`input.a`: `$exists` takes true or false, found a number"),
        ({"input.a": {"$prefix": 1}}, "`input.a`: `$prefix` takes a string, found a number"),
        ({"input.a": {"$any": [1]}}, "`input.a`: `$any` takes an object, found an array"),
        ({"input.a": {"$any": {"$eq": 1, "@.b": {"$eq": 1}}}}, "`$eq` belongs into the operator object"),
        ({"input.a": {"$any": {"input.b": {"$eq": 1}}}}, "inside `$any` a path starts with `@`"),
        ({"@.a": {"$eq": 1}}, "`@` is the element of an array"),
        (
            {"params.a": {"$eq": 1}},
            "path `params.a`: unknown root `params` (expected input, output, error, caller or metadata)",
        ),
        ({"input..a": {"$eq": 1}}, "path `input..a`: empty segment"),
        ({"": {"$eq": 1}}, "path ``: empty segment"),
        ({"input.a\\b": {"$eq": 1}}, "escapes `.` and `\\` only"),
        ({"input.a\\": {"$eq": 1}}, "escapes `.` and `\\` only"),
        ({"input.a": {"$eq": 2**53 + 1}}, "is beyond 2^53"),
    ],
)
def test_a_fault_is_named_in_one_sentence(source: Any, says: str) -> None:
    assert says in refusal(source)


def conjunction(count: int) -> Any:
    return {"$and": [{"input.a": {"$eq": n}} for n in range(count)]}


def nested(name: str, depth: int) -> Any:
    inner: Any = A
    for _ in range(depth - 1):
        inner = {name: inner if name == "$not" else [inner]}
    return inner


def nested_any(depth: int) -> Any:
    inner: Any = {"$eq": 1}
    for _ in range(depth - 1):
        inner = {"$any": inner}
    return {"input.a": inner}


def literal(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ({"input.a": {"$eq": "x" * 8170}}, {"input.a": {"$eq": "x" * 8171}}),
        (nested("$or", 8), nested("$or", 9)),
        (nested("$not", 8), nested("$not", 9)),
        (nested_any(8), nested_any(9)),
        (conjunction(64), conjunction(65)),
        ({"$or": [conjunction(63)]}, {"$or": [conjunction(64)]}),
        ({"input.a": {"$in": [0] * 256}}, {"input.a": {"$in": [0] * 257}}),
        ({".".join(["input", *"a" * 16]): {"$eq": 1}}, {".".join(["input", *"a" * 17]): {"$eq": 1}}),
        ({"input.a": {"$eq": literal(32)}}, {"input.a": {"$eq": literal(33)}}),
        ({"input.a": {"$eq": -(2**53)}}, {"input.a": {"$eq": -(2**53) - 1}}),
        (nested("$and", 60), nested("$and", 61)),
    ],
    ids=[
        *["bytes", "$or", "$not", "$any", "nodes", "nodes with $or"],
        *["items", "segments", "literal", "number", "levels"],
    ],
)  # fmt: skip
def test_a_limit_holds_exactly(within: Any, beyond: Any) -> None:
    Filter(within)
    refusal(beyond)


def test_the_limit_of_bytes_does_not_hold_for_a_normal_form() -> None:
    source = {f"input.k{number:02}": {"$eq": "v" * 232} for number in range(32)}
    normal = Filter(source).normal
    refusal(normal)
    assert Filter(normal, written=False).normal == normal


def test_a_filter_that_nests_without_end_is_refused_before_anything_recurses() -> None:
    source: Any = A
    for _ in range(100_000):
        source = {"$and": [source]}
    assert "levels of JSON" in refusal(source)


@pytest.mark.parametrize(
    ("source", "normal"),
    [
        ({}, {}),
        ({"$and": [{}, {"$and": [{}]}]}, {}),
        (A, {"$and": [A]}),
        (
            {"input.b": {"$lt": 2, "$gt": 1}, "input.a": {"$eq": 1}},
            {"$and": [{"input.a": {"$eq": 1}}, {"input.b": {"$gt": 1, "$lt": 2}}]},
        ),
        ({"$and": [A, A, {"$and": [A]}]}, {"$and": [A]}),
        (
            {"$and": [{"input.a": {"$eq": 2}}, {"input.a": {"$eq": 1}}]},
            {"$and": [{"input.a": {"$eq": 1}}, {"input.a": {"$eq": 2}}]},
        ),
        (
            {"$or": [{"input.b": {"$eq": 1}}, A]},
            {"$and": [{"$or": [{"$and": [{"input.b": {"$eq": 1}}]}, {"$and": [A]}]}]},
        ),
        ({"$not": {}}, {"$and": [{"$not": {}}]}),
        (
            {"input.a": {"$any": {"@.b": {"$eq": 1}}}},
            {"$and": [{"input.a": {"$any": {"$and": [{"@.b": {"$eq": 1}}]}}}]},
        ),
        ({"input.a": {"$any": {"$gt": 1}}}, {"$and": [{"input.a": {"$any": {"$gt": 1}}}]}),
    ],
)
def test_the_normal_form(source: Any, normal: Any) -> None:
    assert Filter(source).normal == normal
    assert Filter(normal, written=False).normal == normal


def test_operators_stand_sorted_in_the_normal_form() -> None:
    normal = Filter({"input.a": {"$lt": 9, "$exists": True, "$gt": 1}}).normal
    assert list(normal["$and"][0]["input.a"]) == ["$exists", "$gt", "$lt"]
