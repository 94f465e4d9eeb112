"""Where paths of filters lead in request_format and response_format."""

from __future__ import annotations

from typing import Any

import pytest

from iii_skill.filters.errors import InvalidFilterPath
from iii_skill.filters.language import parse_filter
from iii_skill.filters.schema_paths import check_paths


def warnings(source: Any, request: Any = None, response: Any = None) -> list[str]:
    return check_paths(parse_filter(source), request, response)


def refusal(source: Any, request: Any = None, response: Any = None) -> str:
    with pytest.raises(InvalidFilterPath) as refused:
        warnings(source, request, response)
    assert refused.value.code == "INVALID_FILTER_PATH"
    return refused.value.message


USER = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}

ORDERS = {
    "type": "object",
    "properties": {
        "table": {"type": "string"},
        "rows": {"type": "array", "items": USER},
        "matrix": {"type": "array", "items": {"type": "array", "items": USER}},
        "meta": {"type": "object"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "loose": {"type": "array"},
        "any": True,
        "never": False,
        "no_items": {"type": "array", "items": False},
        "a.b": {},
        "user": {"$ref": "#/definitions/User"},
        "manager": {"allOf": [{"$ref": "#/definitions/User"}], "description": "said beside it"},
        "deputy": {"anyOf": [{"$ref": "#/definitions/User"}, {"type": "null"}]},
        "escaped": {"$ref": "#/definitions/a~1b"},
    },
    "additionalProperties": False,
    "definitions": {"User": USER, "a/b": USER},
}


@pytest.mark.parametrize(
    "source",
    [
        {"input.table": {"$eq": "orders"}},
        {"input": {"$exists": True}},
        {"input.rows.0.name": {"$eq": "a"}},
        {"input.rows": {"$any": {"@.name": {"$eq": "a"}}}},
        {"input.matrix": {"$any": {"$any": {"$exists": True}}}},
        {"input.labels.team": {"$eq": "core"}},
        {"input.any": {"$eq": 1}},
        {"input.a\\.b": {"$eq": 1}},
        {"input.user.name": {"$eq": "a"}, "input.manager.name": {"$eq": "b"}},
        {"input.deputy.name": {"$eq": "c"}, "input.escaped.name": {"$eq": "d"}},
        {"input.no_items": {"$any": {"$eq": 1}}},
        {"error.code": {"$eq": "X"}, "caller.worker_name": {"$ne": "a"}, "metadata.k": {"$exists": True}},
        {"output.whatever": {"$eq": 1}},
    ],
)
def test_paths_that_the_schema_knows_pass_without_a_warning(source: Any) -> None:
    assert warnings(source, ORDERS) == []


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ({"input.tabel": {"$eq": "orders"}}, "input.tabel"),
        ({"input.tabel": {"$exists": False}}, "input.tabel"),
        ({"$or": [{"input.table": {"$eq": 1}}, {"$not": {"input.tabel": {"$eq": 1}}}]}, "input.tabel"),
        ({"input.rows.0.nam": {"$eq": "a"}}, "input.rows.0.nam"),
        ({"input.rows": {"$any": {"@.nam": {"$eq": "a"}}}}, "input.rows[*].nam"),
        ({"input.matrix": {"$any": {"@": {"$any": {"@.w": {"$eq": 1}}}}}}, "input.matrix[*][*].w"),
        ({"input.never": {"$exists": False}}, "input.never"),
        ({"input.never.x": {"$eq": 1}}, "input.never"),
        ({"input.no_items.0": {"$eq": 1}}, "input.no_items.0"),
        ({"input.no_items": {"$any": {"@.y": {"$eq": 1}}}}, "input.no_items[*].y"),
        ({"input.a\\.c": {"$eq": 1}}, "input.a\\.c"),
        ({"input.user.nam": {"$eq": "a"}}, "input.user.nam"),
        ({"input.deputy.nam": {"$eq": "a"}}, "input.deputy.nam"),
    ],
)
def test_a_path_that_leaves_a_closed_schema_is_refused(source: Any, where: str) -> None:
    assert refusal(source, ORDERS) == f"{where} is not in request_format"


@pytest.mark.parametrize(
    ("source", "warning"),
    [
        ({"input.meta.source": {"$eq": 1}}, "input.meta.source: request_format is open at input.meta"),
        ({"input.any.x": {"$eq": 1}}, "input.any.x: request_format is open at input.any"),
        ({"input.loose.0": {"$eq": 1}}, "input.loose.0: request_format is open at input.loose"),
        (
            {"input.loose": {"$any": {"@.id": {"$eq": 1}}}},
            "input.loose[*].id: request_format is open at input.loose",
        ),
    ],
)
def test_a_path_through_an_open_part_is_taken_with_a_warning(source: Any, warning: str) -> None:
    assert warnings(source, ORDERS) == [f"{warning}; path not verified"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"title": "AnyValue"},
        {"properties": {"a": {}}, "additionalProperties": True},
        True,
    ],
)
def test_an_open_schema_gives_one_warning_for_each_path(schema: Any) -> None:
    source = {"$or": [{"input.x": {"$eq": 1}}, {"input.x": {"$eq": 2}}]}
    assert warnings(source, schema) == ["input.x: request_format is open; path not verified"]
    assert warnings({"output.x": {"$eq": 1}}, None, schema) == [
        "output.x: response_format is open; path not verified"
    ]


def test_a_path_into_a_scalar_says_that_it_is_always_absent() -> None:
    assert warnings({"input.table.name": {"$eq": "x"}}, ORDERS) == [
        "input.table.name: request_format declares input.table as string; the path is always absent"
    ]
    assert warnings({"input.rows.name": {"$eq": "x"}}, ORDERS) == [
        "input.rows.name: request_format declares input.rows as array; the path is always absent"
    ]


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"$ref": "https://example.com/schema.json"}, "$ref"),
        ({"$ref": "#/definitions/Missing"}, "$ref"),
        ({"$ref": "#"}, "$ref"),
        ({"$ref": "#/a", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}, "$ref"),
        ({"$ref": "#/definitions/A", "properties": {}, "definitions": {"A": {}}}, "$ref"),
        ({"anyOf": [{"type": "object"}, {"type": "string"}]}, "anyOf"),
        ({"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "oneOf"),
        ({"allOf": [{"properties": {}}, {"properties": {}}], "additionalProperties": False}, "allOf"),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, "patternProperties"),
        ({"type": "object", "if": {"properties": {"a": {}}}, "then": {}}, "if"),
        ({"anyOf": 5}, "anyOf"),
    ],
)  # fmt: skip
def test_what_is_not_followed_is_open(schema: Any, keyword: str) -> None:
    assert warnings({"input.x": {"$eq": 1}}, schema) == [
        f"input.x: request_format uses `{keyword}` at input; path not verified"
    ]


def test_declared_properties_are_known_beside_keywords_that_are_not_followed() -> None:
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    schema = {"type": "object", "properties": {"a": closed}, "patternProperties": {"^x": {}}}
    assert refusal({"input.a.b": {"$eq": 1}}, schema) == "input.a.b is not in request_format"


def test_each_root_is_checked_against_its_own_format() -> None:
    closed = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    other = {"type": "object", "properties": {"b": {}}, "additionalProperties": False}
    assert warnings({"input.a": {"$eq": 1}, "output.b": {"$eq": 1}}, closed, other) == []
    assert refusal({"output.a": {"$eq": 1}}, closed, other) == "output.a is not in response_format"


@pytest.mark.parametrize(
    "schema", [5, "x", [], {"properties": 5}, {"properties": {"x": 5}}, {"type": 7}, {"items": 3}]
)
def test_nonsense_in_place_of_a_schema_is_open(schema: Any) -> None:
    assert len(warnings({"input.x": {"$eq": 1}}, schema)) == 1
