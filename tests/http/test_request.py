"""The payload of an http call."""

from __future__ import annotations

import json

import pytest

from iii_skill.http.request import (
    RequestParts,
    condition_payload,
    deliverable,
    header_map,
    is_json,
    middleware_payload,
    payload,
)
from iii_skill.http.routes import Route
from iii_skill.triggers import Trigger

ROUTE = Route.of(Trigger("a", "http", "t::a"), method="GET", path="u/:id")
REF = b'{"channel_id":"c","access_key":"k","direction":"read"}'


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", {}),
        (b"a=1&a=2&b=&c&d=%20+%C3%A9", {"a": "2", "b": "", "c": "", "d": "  é"}),
        (b"=q", {"": "q"}),
        (b"e[]=1", {"e[]": "1"}),
        (b"z=%zz", {"z": "%zz"}),
        (b"u=%ff", {"u": "�"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"&&a=1&", {"a": "1"}),
        (b"a;b=1", {"a;b": "1"}),
        (b"a=%2B", {"a": "+"}),
        ("ü=ö".encode(), {"ü": "ö"}),
    ],
)
def test_query_params_are_decoded_and_the_last_wins(query: bytes, expected: dict[str, str]) -> None:
    assert json.loads(RequestParts({}, {}, query).query_params()) == expected


def test_headers_keep_the_last_value_and_empty_what_is_not_ascii() -> None:
    pairs = [(b"host", b"h"), (b"x-rep", b"one"), (b"x-rep", b"two"), (b"x-utf", "é".encode())]
    assert header_map(pairs) == {"host": "h", "x-rep": "two", "x-utf": ""}


@pytest.mark.parametrize(
    ("content_type", "parsed"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("text/plain, application/json", True),
        ("Application/JSON", False),
        ("application/vnd.api+json", False),
        ("text/json", False),
        ("", False),
    ],
)
def test_a_body_is_parsed_only_for_lower_case_application_json(content_type: str, parsed: bool) -> None:
    assert is_json({"content-type": content_type}) is parsed


def test_a_body_without_content_type_is_not_parsed() -> None:
    assert not is_json({})


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1}',
        b"[]",
        b'"x"',
        b"5",
        b"null",
        b" true\n",
        b"123456789012345678901234567890",
        b"0.1000000000000000055511151231257827",
        b'{"a":1,"a":2}',
        b"[" * 124 + b"]" * 124,
        b'["' + b"[" * 500 + b'"]',
        b'["' + b'\\"[' * 500 + b'"]',
        b"[" + b"[[]]," * 500 + b"[]]",
    ],
)
def test_a_valid_body_keeps_its_bytes(raw: bytes) -> None:
    assert deliverable(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"Infinity",
        b"1 x",
        b'"\xff"',
        b'"\\ud800"',
        b"1e999",
        b"[" * 125 + b"]" * 125,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"a=1",
    ],
)
def test_an_invalid_body_arrives_as_null(raw: bytes) -> None:
    assert not deliverable(raw)


def test_the_payload_has_exactly_nine_keys_in_order() -> None:
    parts = RequestParts({"host": "h"}, {"id": "a%20b"}, b"a=1", b'{"big":123456789012345678901234567890}')
    text = payload(ROUTE, parts, b',"request_body":' + REF + b',"response":' + REF)
    assert text == (
        b'{"body":{"big":123456789012345678901234567890},"headers":{"host":"h"},"method":"GET",'
        b'"path":"u/:id","path_params":{"id":"a%20b"},"query_params":{"a":"1"},'
        b'"request_body":' + REF + b',"response":' + REF + b","
        b'"trigger":{"type":"http","path":"u/:id","method":"GET"}}'
    )


def test_a_condition_gets_no_channels() -> None:
    decoded = json.loads(condition_payload(ROUTE, RequestParts({}, {})))
    assert list(decoded) == ["body", "headers", "method", "path", "path_params", "query_params", "trigger"]


def test_middleware_gets_the_request_without_body() -> None:
    parts = RequestParts({"host": "h"}, {"id": "5"}, b"a=1", b"{}")
    assert json.loads(middleware_payload(ROUTE, parts)) == {
        "phase": "preHandler",
        "request": {
            "path_params": {"id": "5"},
            "query_params": {"a": "1"},
            "headers": {"host": "h"},
            "method": "GET",
        },
        "context": {},
    }
