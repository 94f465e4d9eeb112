"""The subset of JSON Schema and its error texts."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import pytest

from iii_skill.configuration.schema import Schema
from iii_skill.configuration.schema_document import BadSchema

OF_THE = "of the schemas listed in the"
FALSE = "False schema does not allow 2"


@pytest.mark.parametrize(
    ("schema", "instance", "errors"),
    [
        ({"type": "integer"}, 100.0, ['100.0 is not of type "integer"']),
        ({"type": "integer"}, True, ['true is not of type "integer"']),
        ({"type": "number"}, 1, []),
        ({"type": ["integer", "null"]}, "x", ['"x" is not of types "integer", "null"']),
        ({"enum": ["a", "b"]}, "x", ['"x" is not one of ["a","b"]']),
        ({"enum": [1]}, 1.0, ["1.0 is not one of [1]"]),
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
def test_errors(schema: Any, instance: Any, errors: list[str]) -> None:
    assert Schema(schema).errors(instance) == errors


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
        {"if": {}},
        {"properties": {"a": {"patternProperties": {}}}},
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
        {"$ref": "#"},
        {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}},
        {"not": {"not": {"$ref": "#"}}},
        reduce(lambda inner, _: {"items": inner}, range(5000), {}),
    ],
)
def test_what_cannot_be_checked_is_refused(schema: Any) -> None:
    with pytest.raises(BadSchema) as caught:
        Schema(schema)
    assert caught.value.code == "SCHEMA_INVALID"
    assert caught.value.message.startswith("invalid JSON Schema: ")


def test_a_schema_may_describe_a_tree() -> None:
    tree = Schema({"properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}})
    assert tree.errors({"child": {"child": {"n": "x"}}}) == ['"x" is not of type "integer"']


def test_a_value_too_deep_for_its_schema_is_an_error() -> None:
    tree = Schema({"items": {"$ref": "#"}})
    assert tree.errors(json.loads("[" * 900 + "]" * 900)) == ["the value is nested too deep for its schema"]


def test_annotations_assert_nothing() -> None:
    schema = {
        "title": "t",
        "description": "d",
        "default": 1,
        "format": "uint",
        "examples": [1],
        "$schema": "x",
    }
    assert Schema(schema).errors("anything") == []
