"""From an answer to a response."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iii_skill.http.response import answer, compact, failure, middleware_response, problem

JSON = [(b"content-type", b"application/json")]
TEXT = {"content-type": "text/plain"}


def respond(value: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    response = answer(value if isinstance(value, bytes) else json.dumps(value).encode()).response
    return response.status, response.headers, response.body


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        ({"status_code": 201, "body": {"a": 1}}, 201, b'{"a":1}'),
        ({"body": {"a": 1}}, 200, b'{"a":1}'),
        ({"a": 1}, 200, b"{}"),
        ("hi", 200, b"{}"),
        ([1], 200, b"{}"),
        (5, 200, b"{}"),
        (True, 200, b"{}"),
        (False, 200, b"{}"),
        ({}, 200, b"{}"),
        ({"statusCode": 201, "body": 1}, 200, b"1"),
        ({"status": 201, "body": 1}, 200, b"1"),
        ({"status_code": "201", "body": 1}, 200, b"1"),
        ({"status_code": 201.0, "body": 1}, 200, b"1"),
        ({"status_code": -201, "body": 1}, 200, b"1"),
        ({"status_code": None, "body": 1}, 200, b"1"),
        ({"status_code": True, "body": 1}, 200, b"1"),
        ({"status_code": 99, "body": 1}, 200, b"1"),
        ({"status_code": 1000, "body": 1}, 200, b"1"),
        ({"status_code": 999, "body": 1}, 999, b"1"),
        ({"status_code": 65536 + 404, "body": 1}, 404, b"1"),
        ({"status_code": 10**30, "body": 1}, 200, b"1"),
        ({"status_code": 404}, 404, b"{}"),
        ({"status_code": 404, "body": None}, 404, b"null"),
        ({"body": "hello"}, 200, b'"hello"'),
        ({"body": False}, 200, b"false"),
        ({"body": [1, {"b": 2, "a": 1}]}, 200, b'[1,{"b":2,"a":1}]'),
    ],
)
def test_only_the_envelope_counts(value: Any, status: int, body: bytes) -> None:
    assert respond(value) == (status, JSON, body)


@pytest.mark.parametrize(
    ("body", "sent"),
    [("hé\n", "hé\n".encode()), (None, b""), ({"a": [1, 2]}, b'{"a":[1,2]}'), (5, b"5"), ("", b"")],
)
def test_with_a_content_type_strings_are_text_and_null_is_empty(body: Any, sent: bytes) -> None:
    assert respond({"headers": TEXT, "body": body}) == (200, [(b"content-type", b"text/plain")], sent)


def test_a_content_type_in_any_case_counts() -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert respond({"headers": headers, "body": "x"})[1:] == (
        [(b"content-type", b"application/json; charset=utf-8")],
        b"x",
    )


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_drop_it_and_keep_the_type(status: int) -> None:
    assert respond({"status_code": status, "body": {"a": 1}}) == (status, JSON, b"")


@pytest.mark.parametrize("status", [100, 101, 199])
def test_a_status_that_is_not_final_is_an_empty_500(status: int) -> None:
    assert respond({"status_code": status, "body": 1}) == (500, [], b"")


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"X-A": "1", "x-b": 2, "x-c": None, "x-d": ["3"]}, [(b"x-a", b"1")]),
        (["X-A: 1", "X-A: 2", 5, "none"], [(b"x-a", b"1"), (b"x-a", b"2")]),
        (["Set-Cookie: a=b; Path=/:x"], [(b"set-cookie", b"a=b; Path=/:x")]),
        ({"bad name": "1", "": "2", "a:b": "3", "x": "a\r\nset-cookie: evil"}, []),
        ({"x": "a\nb", "y": "a\x00b"}, []),
        ({"Content-Length": "5", "transfer-encoding": "chunked", "x": "1"}, [(b"x", b"1")]),
        ("x: 1", []),
        (5, []),
        (None, []),
        ({"x": "é"}, [(b"x", "é".encode())]),
    ],
)  # fmt: skip
def test_headers_are_an_object_or_an_array(headers: Any, kept: list[tuple[bytes, bytes]]) -> None:
    assert respond({"headers": headers, "body": 1}) == (200, [*JSON, *kept], b"1")


def test_numbers_and_key_order_of_a_body_stay() -> None:
    raw = b'{"body": {"b": 123456789012345678901234567890, "a": 1.50, "c": "\xc3\xa9 x"}}'
    assert respond(raw)[2] == b'{"b":123456789012345678901234567890,"a":1.50,"c":"\xc3\xa9 x"}'


def test_compact_leaves_what_has_no_blanks() -> None:
    raw = b'{"a":1}'
    assert compact(raw) is raw


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"statusCode": 201, "body": 1}, "`statusCode` is ignored"),
        ({"status": 201, "body": 1}, "`status` is ignored"),
        ({"status_code": "201"}, "no whole number"),
        ({"status_code": 201.0}, "no whole number"),
        ({"status_code": 2000}, "no whole number from 100 to 999"),
        ({"a": 1}, "none of `status_code`, `headers`, `body`"),
        ({}, "none of"),
        ("text", "no object"),
        ({"status_code": 101}, "500"),
    ],
)
def test_what_the_engine_ignores_is_complained_about(value: Any, says: str) -> None:
    complaint = answer(json.dumps(value).encode()).complaint
    assert complaint is not None
    assert says in complaint
    assert '{"status_code": 200, "body": ...}' in complaint


@pytest.mark.parametrize("status", [200, 204, 404])
@pytest.mark.parametrize(
    ("headers", "kept", "says"),
    [
        ({"x-a": ["1", "2"], "x-b": "3"}, ["x-b"], "header `x-a` has no text"),
        ({"x-a": 5}, [], "header `x-a` has no text"),
        ({"x-a": None}, [], "header `x-a` has no text"),
        ({"x-a": {"v": "1"}}, [], "header `x-a` has no text"),
        ({"x-a": True}, [], "header `x-a` has no text"),
        (["x-a: 1", 5, "no colon"], ["x-a"], "2 entries"),
        ([["x-a", "1"]], [], "1 entries"),
        ("x-a: 1", [], "neither an object nor a list"),
        (5, [], "neither an object nor a list"),
        ({"x-a": "1"}, ["x-a"], None),
        (["x-a: 1", "x-a: 2"], ["x-a", "x-a"], None),
        (None, [], None),
    ],
)
def test_headers_that_are_no_texts_are_dropped_and_complained_of(
    headers: Any, kept: list[str], says: str | None, status: int
) -> None:
    answered = answer(json.dumps({"status_code": status, "headers": headers, "body": 1}).encode())
    names = [name.decode() for name, _ in answered.response.headers if name != b"content-type"]
    assert names == kept
    if says is None:
        assert answered.complaint is None
    else:
        assert answered.complaint is not None
        assert says in answered.complaint
        assert '"name: text"' in answered.complaint


@pytest.mark.parametrize(
    "value",
    [
        {"body": 1},
        {"status_code": 200},
        {"headers": {}},
        {"status_code": 204},
        {"status_code": 201, "statusCode": 201, "body": 1},
        {"body": {"status": "paid", "statusCode": 1}},
    ],
)
def test_a_proper_envelope_is_not(value: Any) -> None:
    assert answer(json.dumps(value).encode()).complaint is None


def test_an_error_has_code_id_and_message() -> None:
    response = failure("MY_CODE", "böom")
    error = json.loads(response.body)["error"]
    assert (response.status, response.headers) == (500, JSON)
    assert list(error) == ["code", "error_id", "message"]
    assert (error["code"], error["message"]) == ("MY_CODE", "böom")
    assert len(error["error_id"]) == 12
    assert int(error["error_id"], 16) >= 0


def test_a_problem_has_no_id() -> None:
    body = problem(404, "NOT_FOUND", "Not Found").body
    assert body == b'{"error":{"code":"NOT_FOUND","message":"Not Found"}}'


def test_a_broken_answer_is_an_error() -> None:
    response = answer(b'{"body":').response
    assert response.status == 500
    assert json.loads(response.body)["error"]["code"] == "invalid_response"


@pytest.mark.parametrize(
    "verdict", [{"action": "continue"}, {"action": "what"}, {"a": 1}, None, "respond", 5, [], {"action": 5}]
)
def test_middleware_goes_on_unless_it_responds(verdict: Any) -> None:
    assert middleware_response(json.dumps(verdict).encode()) is None


@pytest.mark.parametrize(
    ("patch", "status", "headers", "body"),
    [
        ({"status_code": 401, "body": {"e": 1}}, 401, JSON, b'{"e":1}'),
        ({}, 200, JSON, b"null"),
        ({"body": "text"}, 200, JSON, b'"text"'),
        ({"headers": {"x": "1"}}, 200, [*JSON, (b"x", b"1")], b"null"),
        ({"headers": {"x": "1", "y": 2}}, 200, JSON, b"null"),
        ({"headers": ["x: 1"]}, 200, JSON, b"null"),
        ({"headers": TEXT, "body": "t"}, 200, [(b"content-type", b"text/plain")], b'"t"'),
    ],
)  # fmt: skip
def test_a_middleware_response_is_always_json(
    patch: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    verdict = middleware_response(json.dumps({"action": "respond", "response": patch}).encode())
    assert verdict is not None
    response = verdict.response
    lost = patch.get("headers") in ({"x": "1", "y": 2}, ["x: 1"])
    assert (verdict.complaint is not None) is lost
    assert (response.status, response.headers, response.body) == (status, headers, body)


def test_a_middleware_that_only_says_respond_answers_null() -> None:
    verdict = middleware_response(b'{"action":"respond"}')
    assert verdict is not None
    assert verdict.complaint is None
    assert (verdict.response.status, verdict.response.body) == (200, b"null")
