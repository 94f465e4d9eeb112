"""Error texts, schemas that are refused, and checks that take too long or too much."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from functools import reduce
from typing import Any

import pytest

from iii_skill.json_schema import BadSchema, CheckFailed, SchemaChecker
from iii_skill.json_schema.checker import MAX_WAITING

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    checker = SchemaChecker()
    yield checker
    await checker.close()


async def judged(checker: SchemaChecker, schema: Any, instance: Any) -> list[str]:
    return await checker.errors(json.dumps(schema).encode(), json.dumps(instance).encode())


@pytest.mark.parametrize(
    ("schema", "instance", "errors"),
    [
        ({"type": "integer"}, 100.5, ['100.5 is not of type "integer"']),
        ({"type": "integer"}, True, ['true is not of type "integer"']),
        ({"type": "number"}, 1, []),
        ({"type": ["integer", "null"]}, "x", ['"x" is not of types "integer", "null"']),
        ({"enum": ["a", "b"]}, "x", ['"x" is not one of "a" or "b"']),
        ({"enum": [1]}, 1.0, []),
        ({"const": 1}, 2, ["1 was expected"]),
        ({"minimum": 1.0}, 0, ["0 is less than the minimum of 1.0"]),
        ({"maximum": 5}, 6.5, ["6.5 is greater than the maximum of 5"]),
        ({"exclusiveMinimum": 0}, 0, ["0 is less than or equal to the minimum of 0"]),
        ({"exclusiveMaximum": 5}, 5, ["5 is greater than or equal to the maximum of 5"]),
        ({"multipleOf": 0.1}, 0.3, []),
        ({"multipleOf": 0.5}, 1e308, []),
        ({"minLength": 2.0}, "ab", []),
        ({"multipleOf": 2}, 5, ["5 is not a multiple of 2"]),
        ({"minLength": 3}, "é", ['"é" is shorter than 3 characters']),
        ({"maxLength": 1}, "ab", ['"ab" is longer than 1 character']),
        ({"pattern": "^a"}, "b", ['"b" does not match "^a"']),
        ({"minItems": 1}, [], ["[] has less than 1 item"]),
        ({"maxItems": 1}, [1, 2], ["[1,2] has more than 1 item"]),
        ({"uniqueItems": True}, [1, 1], ["[1,1] has non-unique elements"]),
        ({"minProperties": 2}, {}, ["{} has less than 2 properties"]),
        ({"maxProperties": 1}, {"b": 1, "a": 2}, ['{"a":2,"b":1} has more than 1 property']),
        ({"items": {"type": "integer"}}, ["a", 1], ['"a" is not of type "integer"']),
        ({"required": ["b", "a"]}, {}, ['"b" is a required property', '"a" is a required property']),
        (
            {"anyOf": [{"type": "null"}]},
            5,
            ["5 is not valid under any of the schemas listed in the 'anyOf' keyword"],
        ),
        (
            {"oneOf": [{}, True]},
            5,
            ["5 is valid under more than one of the schemas listed in the 'oneOf' keyword"],
        ),
        (
            {"allOf": [{"type": "string"}, {"minimum": 6}]},
            5,
            ['5 is not of type "string"', "5 is less than the minimum of 6"],
        ),
        ({"not": {"type": "integer"}}, 5, ['{"type":"integer"} is not allowed for 5']),
        (False, 5, ["False schema does not allow 5"]),
        (
            {"properties": {"b": {"type": "null"}, "a": {"type": "null"}}},
            {"b": 2, "a": 1},
            ['1 is not of type "null"', '2 is not of type "null"'],
        ),
        (
            {"additionalProperties": False, "properties": {"m": {"minimum": 1}}},
            {"zz": 1, "m": 0, "aa": 2},
            [
                "0 is less than the minimum of 1",
                "Additional properties are not allowed ('aa', 'zz' were unexpected)",
            ],
        ),
        ({"additionalProperties": {"type": "string"}}, {"a": 1}, ['1 is not of type "string"']),
        ({"$ref": "#/definitions/x", "definitions": {"x": {"type": "null"}}}, 1, ['1 is not of type "null"']),
    ],
)
async def test_errors(checker: SchemaChecker, schema: Any, instance: Any, errors: list[str]) -> None:
    assert await judged(checker, schema, instance) == errors


@pytest.mark.parametrize(
    "schema",
    [
        5,
        {"type": "nope"},
        {"type": 5},
        {"pattern": "("},
        {"properties": 5},
        {"anyOf": {}},
        {"items": 5},
        {"$ref": "#/definitions/none"},
        {"$ref": "http://example.com"},
        {"patternProperties": {"(": {}}},
        {"type": []},
        {"type": ["string", []]},
        {"enum": 3},
        {"required": 5},
        {"required": [1]},
        {"minimum": "a"},
        {"maximum": True},
        {"minLength": "a"},
        {"maxItems": 1.5},
        {"minProperties": -1},
        {"multipleOf": 0},
        {"uniqueItems": "yes"},
        {"allOf": [5]},
        {"$ref": "#/examples/0", "examples": [5]},
        {"$ref": "#/examples/0", "examples": [{"type": 5}]},
    ],
)
async def test_what_cannot_be_checked_is_refused(checker: SchemaChecker, schema: Any) -> None:
    with pytest.raises(BadSchema) as caught:
        await checker.check_schema(json.dumps(schema).encode())
    assert caught.value.code == "SCHEMA_INVALID"
    assert caught.value.message.startswith("invalid JSON Schema: ")


async def test_a_schema_may_describe_a_tree(checker: SchemaChecker) -> None:
    tree = {"properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}}
    assert await judged(checker, tree, {"child": {"child": {"n": "x"}}}) == ['"x" is not of type "integer"']


async def test_a_schema_nested_too_deep_is_refused(checker: SchemaChecker) -> None:
    for levels in (500, 5000):
        with pytest.raises(BadSchema):
            await checker.check_schema(b'{"items":' * levels + b"{}" + b"}" * levels)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"not": {"not": {"$ref": "#"}}}])
async def test_a_schema_that_leads_back_to_itself_asserts_nothing(
    checker: SchemaChecker, schema: Any
) -> None:
    assert await judged(checker, schema, 5) == []


async def test_a_deep_value_is_judged(checker: SchemaChecker) -> None:
    deep = json.loads("[" * 125 + "]" * 125)
    assert await judged(checker, {"items": {"$ref": "#"}}, deep) == []


async def test_annotations_assert_nothing(checker: SchemaChecker) -> None:
    schema = {"title": "t", "description": "d", "default": 1, "format": "uint", "examples": [1]}
    assert await judged(checker, schema, "anything") == []


@pytest.mark.parametrize(
    ("schema", "instance", "fits"),
    [
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, "x", False),
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": "x"}, False),
        ({"contains": {"type": "null"}}, [1], False),
        ({"dependencies": {"a": ["b"]}}, {"a": 1}, False),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, False),
        ({"format": "email"}, "nobody", False),
        (
            {"$schema": DRAFT_2020, "prefixItems": [{"type": "null"}]},
            [1],
            False,
        ),
        (
            {"$schema": DRAFT_7, "prefixItems": [{"type": "null"}]},
            [1],
            True,
        ),
        ({"$schema": "https://example.com/mine", "type": "null"}, None, True),
    ],
)
async def test_every_keyword_of_the_draft_asserts(
    checker: SchemaChecker, schema: Any, instance: Any, fits: bool
) -> None:
    assert (await judged(checker, schema, instance) == []) is fits


DOUBLING = {
    "$ref": "#/definitions/d0",
    "definitions": {
        **{f"d{n}": {"anyOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(40)},
        "d40": {"type": "string"},
    },
}
DEEP_DOUBLING = {
    "properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#/definitions/again"}]}},
    "definitions": {"again": {"allOf": [{"$ref": "#"}]}},
    "required": ["b"],
}
"""Small for a small value: each level of the value doubles the work."""


def nested(levels: int) -> Any:
    return reduce(lambda inner, _: {"a": inner, "b": 1}, range(levels), {})


@pytest.mark.parametrize(
    ("schema", "instance", "reason"),
    [
        (DOUBLING, 5, "takes too long"),
        (DEEP_DOUBLING, nested(60), "takes too"),
        ({"allOf": [{"minLength": 10**9}] * 3000}, "x" * 300_000, "takes too much memory"),
    ],
    ids=["40 doublings", "60 levels of a doubling", "3000 quotes"],
)
async def test_a_check_that_takes_too_much_is_ended_and_the_next_one_is_answered(
    checker: SchemaChecker, schema: Any, instance: Any, reason: str
) -> None:
    with pytest.raises(CheckFailed, match=reason) as caught:
        await judged(checker, schema, instance)
    assert caught.value.code == "SCHEMA_UNAVAILABLE"
    assert await judged(checker, {"type": "null"}, 1) == ['1 is not of type "null"']


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", r"^(?=a)(a+)+\1$"])
async def test_patterns_take_bounded_time(checker: SchemaChecker, pattern: str) -> None:
    found = await judged(checker, {"pattern": pattern}, "a" * 100_000 + "b")
    assert len(found) == 1


async def test_a_check_that_took_much_memory_leaves_none_of_it_taken(checker: SchemaChecker) -> None:
    quotes = {"allOf": [{"minLength": 10**9}] * 400}
    assert len(await judged(checker, quotes, "x" * 300_000)) == 21
    first = checker.process_id
    assert await judged(checker, {"type": "null"}, 1) == ['1 is not of type "null"']
    assert checker.process_id != first


async def test_a_child_that_somebody_ended_is_replaced(checker: SchemaChecker) -> None:
    assert await judged(checker, {"type": "null"}, None) == []
    assert checker.process_id is not None
    os.kill(checker.process_id, signal.SIGKILL)
    assert await judged(checker, {"type": "null"}, 1) == ['1 is not of type "null"']


async def test_a_process_that_is_not_used_ends(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iii_skill.json_schema.checker.IDLE_S", 0.01)
    assert await judged(checker, {"type": "null"}, None) == []
    while checker.process_id is not None:
        await asyncio.sleep(0.005)
    assert await judged(checker, {"type": "null"}, None) == []


async def test_long_errors_are_cut_and_many_are_counted(checker: SchemaChecker) -> None:
    [long] = await judged(checker, {"minLength": 10**6}, "x" * 10_000)
    assert long.startswith('"xxx')
    assert long.endswith(" is shorter than 1000000 characters")
    assert len(long) < 500
    many = await judged(checker, {"items": {"type": "null"}}, list(range(1000)))
    assert len(many) == 21
    assert many[-1] == "and 980 more errors"


async def test_the_loop_goes_on_while_a_check_runs(checker: SchemaChecker) -> None:
    check = asyncio.create_task(judged(checker, DOUBLING, 5))
    turns = 0
    while not check.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert turns > 10
    with pytest.raises(CheckFailed):
        await check


async def test_closing_answers_what_waits_and_leaves_no_process(
    checker: SchemaChecker,
) -> None:
    checks = [asyncio.create_task(judged(checker, DOUBLING, 5)) for _ in range(3)]
    await judged_begins(checker)
    process = checker.process_id
    await checker.close()
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the host is stopping"] * 3
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def judged_begins(checker: SchemaChecker) -> None:
    while checker.process_id is None:
        await asyncio.sleep(0.001)


async def test_a_caller_that_leaves_takes_no_answer_of_the_next(checker: SchemaChecker) -> None:
    check = asyncio.create_task(judged(checker, DOUBLING, 5))
    await judged_begins(checker)
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert await judged(checker, {"type": "null"}, 1) == ['1 is not of type "null"']


async def test_more_checks_than_may_wait_are_refused_at_once(checker: SchemaChecker) -> None:
    checks = [judged(checker, True, 1) for _ in range(MAX_WAITING + 5)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert sum(isinstance(outcome, CheckFailed) for outcome in outcomes) == 5
