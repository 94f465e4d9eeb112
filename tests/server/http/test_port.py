"""The HTTP port over real sockets: requests in, responses out."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from support.peers import Peer, pass_time
from support.site import failing, never, open_site, read_reply, until

from iii_skill.calls import Call, Failure
from iii_skill.config import Cors, Middleware
from iii_skill.errors import PortTaken
from iii_skill.server.guard import Guard
from iii_skill.server.http.limits import HttpLimits

VARY = "origin, access-control-request-method, access-control-request-headers"
OK = {"body": {"ok": True}}


async def test_a_function_receives_the_nine_keys_and_its_envelope_is_the_response() -> None:
    async with open_site() as site:
        site.answer("/u/:id", {"status_code": 201, "headers": {"x-a": "1"}, "body": {"a": 1}}, "POST")
        reply = await site.request(
            "POST", "/u/5?q=1", b'{"n": 1}', {"content-type": "application/json", "X-Rep": "é"}
        )
        assert (reply.status, reply.body) == (201, b'{"a":1}')
        assert reply.header("content-type") == "application/json"
        assert reply.header("x-a") == "1"
        assert reply.header("vary") == VARY
        assert reply.header("access-control-allow-origin") == "*"
        assert reply.header("access-control-expose-headers") == "*"
        assert reply.header("server") is None
        assert reply.header("date") is not None
        data = site.data()
        assert list(data) == [
            "body", "headers", "method", "path", "path_params", "query_params", "request_body", "response",
            "trigger",
        ]  # fmt: skip
        assert data["body"] == {"n": 1}
        assert data["headers"] == {
            "host": "localhost",
            "content-type": "application/json",
            "x-rep": "",
            "content-length": "8",
        }
        assert (data["path"], data["path_params"], data["query_params"]) == (
            "/u/:id",
            {"id": "5"},
            {"q": "1"},
        )
        assert data["request_body"]["direction"] == "read"
        assert data["response"]["direction"] == "write"
        assert data["trigger"] == {"type": "http", "path": "/u/:id", "method": "POST"}


async def test_metadata_of_the_trigger_and_the_trace_of_the_client_go_beside_the_payload() -> None:
    async with open_site() as site:
        site.route("/m", lambda call: call.succeed(b"{}"), metadata=b'{"k":0}')
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await site.get("/m", traceparent=trace, baggage="k=v")
        call = site.calls[0]
        assert (call.metadata, call.traceparent, call.baggage) == (b'{"k":0}', trace, "k=v")
        assert call.caller_id is None


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_each_method_reaches_its_route(method: str) -> None:
    async with open_site() as site:
        site.answer("/x", OK, method)
        reply = await site.request(method, "/x")
        assert (reply.status, reply.json()) == (200, {"ok": True})


async def test_an_unknown_path_is_404_and_another_method_405() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        site.answer("/x", OK, "POST")
        missing = await site.get("/nope")
        assert (missing.status, missing.body) == (
            404,
            b'{"error":{"code":"NOT_FOUND","message":"Not Found"}}',
        )
        assert missing.header("access-control-allow-origin") == "*"
        other = await site.request("DELETE", "/x")
        assert (other.status, other.body, other.header("allow")) == (405, b"", "GET,HEAD,POST")
        assert other.header("vary") == VARY


async def test_head_of_a_get_route_is_404_and_a_head_route_keeps_the_length() -> None:
    async with open_site() as site:
        site.answer("/get", OK)
        site.answer("/head", {"body": "12345"}, "HEAD")
        site.answer("/post", OK, "POST")
        assert (await site.request("HEAD", "/get")).status == 404
        assert (await site.request("HEAD", "/post")).status == 405
        reply = await site.request("HEAD", "/head")
        assert (reply.status, reply.header("content-length")) == (200, "7")


async def test_options_never_reaches_a_function() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        site.answer("/x", OK, "OPTIONS")
        known = await site.request("OPTIONS", "/x")
        assert (known.status, known.body, known.header("allow")) == (200, b"", "GET,HEAD,OPTIONS")
        assert known.header("access-control-allow-methods") == "*"
        unknown = await site.request("OPTIONS", "/nope")
        assert (unknown.status, unknown.header("allow")) == (200, None)
        assert site.calls == []


@pytest.mark.parametrize(
    ("content_type", "body", "delivered"),
    [
        ("application/json", b'{"a":[1,"\xc3\xa9"]}', {"a": [1, "é"]}),
        ("application/json; charset=utf-8", b"[]", []),
        ("application/json", b"", None),
        ("application/json", b"{bad", None),
        ("application/json", b"NaN", None),
        ("application/json", b"123456789012345678901234567890", 123456789012345678901234567890),
        ("Application/JSON", b"{}", None),
        ("text/plain", b"{}", None),
        ("application/x-www-form-urlencoded", b"a=1", None),
        (None, b"{}", None),
    ],
)
async def test_the_body_is_json_only_by_the_rule_of_content_types(
    content_type: str | None, body: bytes, delivered: object
) -> None:
    async with open_site() as site:
        site.answer("/x", OK, "POST")
        headers = {} if content_type is None else {"content-type": content_type}
        assert (await site.request("POST", "/x", body, headers)).status == 200
        assert site.data()["body"] == delivered


async def test_a_chunked_json_body_is_joined() -> None:
    async with open_site() as site:
        site.answer("/x", OK, "POST")
        head = b"POST /x HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        reply = await site.raw(head + b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n')
        assert reply.status == 200
        assert site.data()["body"] == {"a": 1}


async def test_a_json_body_over_the_limit_is_413_and_calls_nothing() -> None:
    async with open_site(limits=HttpLimits(max_body_bytes=1000)) as site:
        site.answer("/x", OK, "POST")
        json_type = {"content-type": "application/json"}
        exact = b'"' + b"x" * 998 + b'"'
        assert (await site.request("POST", "/x", exact, json_type)).status == 200
        reply = await site.request("POST", "/x", exact + b" ", json_type)
        assert reply.status == 413
        assert reply.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"
        assert "larger than 1000 bytes" in reply.json()["error"]["message"]
        head = b"POST /x HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        chunked = await site.raw(head + b"7d0\r\n" + b"1" * 2000 + b"\r\n0\r\n\r\n")
        assert chunked.status == 413
        assert len(site.calls) == 1


async def test_errors_of_functions_are_500_with_code_id_and_message() -> None:
    async with open_site() as site:
        site.route("/x", failing("MY_CODE", "boom"))
        reply = await site.get("/x")
        error = reply.json()["error"]
        assert (reply.status, error["code"], error["message"]) == (500, "MY_CODE", "boom")
        assert len(error["error_id"]) == 12
        assert b"secret trace" not in reply.body
        assert reply.header("access-control-allow-origin") == "*"


async def test_the_failures_of_a_function_are_one_line_and_then_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_site() as site:
        site.route("/x", failing("MY_CODE", "boom\nERROR root: forged " + "x" * 100_000))
        site.route("/y", failing("OTHER", "boom"))
        for _ in range(50):
            assert (await site.get("/x")).status == 500
        assert (await site.get("/y")).status == 500
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert lines[0].startswith("GET /x: function t::f1: MY_CODE: boom ERROR root: forged xxx")
        assert len(lines[0]) < 500
        assert lines[1] == "GET /y: function t::f2: OTHER: boom"


async def test_a_missing_function_is_500_function_not_found() -> None:
    async with open_site() as site:
        function_id = site.answer("/x", OK)
        site.engine.remove_function(function_id)
        reply = await site.get("/x")
        assert (reply.status, reply.json()["error"]["code"]) == (500, "function_not_found")


async def test_a_late_answer_is_dropped_after_an_empty_504() -> None:
    async with open_site(default_timeout_ms=50) as site:
        site.route("/x", never)
        reply = await site.get("/x")
        assert (reply.status, reply.body, reply.header("vary")) == (504, b"", None)
        site.calls[0].succeed(b'{"body":1}')
        site.answer("/y", OK)
        assert (await site.get("/y")).status == 200


@pytest.mark.parametrize("value", [b"null", None])
async def test_a_null_answer_waits_for_the_channel_and_then_is_504_with_one_warning(
    value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_site(default_timeout_ms=50) as site:
        function_id = site.route("/x", lambda call: call.succeed(value))
        assert (await site.get("/x")).status == 504
        assert (await site.get("/x")).status == 504
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == 1
        assert f"function {function_id}: it answered null" in warnings[0]
        assert 'return {"status_code": 200, "body": ...}' in warnings[0]


async def test_what_the_engine_ignores_is_warned_about_once_for_each_function(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_site() as site:
        function_id = site.answer("/x", {"statusCode": 404, "body": 1})
        for _ in range(3):
            assert (await site.get("/x")).status == 200
        assert [record.getMessage() for record in caplog.records] == [
            f"GET /x: function {function_id}: `statusCode` is ignored, so the client gets 200; "
            'write `status_code` in a plain object: return {"status_code": 200, "body": ...}'
        ]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ({"a": 1}, 200, b"{}"),
        ("hi", 200, b"{}"),
        ({"status_code": 204, "body": 1}, 204, b""),
        ({"status_code": 304}, 304, b""),
        ({"status_code": 100}, 500, b""),
        ({"status_code": 999, "body": 1}, 999, b"1"),
        ({"headers": {"content-type": "text/plain"}, "body": "hé"}, 200, "hé".encode()),
        ({"headers": {"content-length": "1"}, "body": "hello"}, 200, b'"hello"'),
        ({"headers": {"transfer-encoding": "chunked"}, "body": "hello"}, 200, b'"hello"'),
    ],
)  # fmt: skip
async def test_answers_keep_the_connection_in_order(answer: object, status: int, body: bytes) -> None:
    async with open_site() as site:
        site.answer("/x", answer)
        site.answer("/next", {"body": "next"})
        reader, writer = await site.connect()
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        reply = await read_reply(reader)
        assert (reply.status, reply.body) == (status, body)
        writer.write(b"GET /next HTTP/1.1\r\n\r\n")
        assert (await read_reply(reader)).body == b'"next"'


async def test_an_answer_cannot_split_the_response() -> None:
    async with open_site() as site:
        headers = {"x": "1\r\nset-cookie: evil=1", "bad name": "1", "ok": "1"}
        site.answer("/x", {"headers": headers, "body": 1})
        reply = await site.get("/x")
        assert reply.header("ok") == "1"
        assert {name for name, _ in reply.headers}.isdisjoint({"x", "set-cookie", "bad name"})


@pytest.mark.parametrize(
    ("request_line", "said", "connection"),
    [
        (b"GET /x HTTP/1.1", "close", "close"),
        (b"GET /x HTTP/1.1", "Keep-Alive, Close", "close"),
        (b"GET /x HTTP/1.1", "keep-alive", None),
        (b"GET /x HTTP/1.0", "keep-alive", "close"),
        (b"GET /x HTTP/1.0\r\nconnection: keep-alive", "x", "keep-alive"),
        (b"GET /x HTTP/1.1\r\nconnection: close", "keep-alive", "close"),
    ],
)
async def test_an_answer_says_what_becomes_of_its_connection(
    request_line: bytes, said: str, connection: str | None
) -> None:
    async with open_site() as site:
        site.answer("/x", {"headers": {"connection": said}, "body": 1})
        reader, writer = await site.connect()
        writer.write(request_line + b"\r\n\r\n")
        assert (await read_reply(reader)).header("connection") == connection
        if connection == "close":
            assert await reader.read() == b""


async def test_cors_overwrites_the_origin_that_a_function_sets() -> None:
    async with open_site() as site:
        site.answer(
            "/x", {"headers": {"access-control-allow-origin": "https://a", "vary": "accept"}, "body": 1}
        )
        reply = await site.get("/x")
        assert reply.header("access-control-allow-origin") == "*"
        assert reply.header("vary") == f"accept|{VARY}"


async def test_listed_origins_are_echoed_and_loopback_ones_served_without() -> None:
    cors = Cors(allowed_origins=("https://a.example",), allowed_methods=("get", "POST"))
    async with open_site(cors=cors) as site:
        site.answer("/x", OK)
        allowed = await site.get("/x", origin="https://a.example")
        assert (allowed.status, allowed.header("access-control-allow-origin")) == (200, "https://a.example")
        local = await site.get("/x", origin="http://localhost:5173")
        assert (local.status, local.header("access-control-allow-origin")) == (200, None)
        preflight = await site.request("OPTIONS", "/x", headers={"origin": "https://a.example"})
        assert preflight.header("access-control-allow-methods") == "get,POST"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        "host: evil.example",
        "host: localhost\r\nhost: evil.example",
        "host: localhost\r\norigin: https://evil.example",
        "host: localhost\r\norigin: null",
        "host: localhost\r\norigin: http://localhost\r\norigin: https://evil.example",
        "host: 192.168.1.5",
        "host: \xe9",
    ],
)
async def test_a_foreign_host_or_origin_is_refused_before_anything_happens(method: str, headers: str) -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        site.answer("/x", OK, "POST")
        reply = await site.raw(f"{method} /x HTTP/1.1\r\n{headers}\r\n\r\n".encode("latin-1"))
        assert reply.status == 403
        assert reply.json()["error"]["code"] == "FORBIDDEN"
        assert reply.header("access-control-allow-origin") is None
        assert site.calls == []


async def test_any_origin_is_served_when_the_configuration_says_so() -> None:
    async with open_site(cors=Cors(allowed_origins=("*",))) as site:
        site.answer("/x", OK)
        reply = await site.get("/x", origin="https://evil.example")
        assert (reply.status, reply.header("access-control-allow-origin")) == (200, "*")


async def test_a_guard_of_the_caller_is_used() -> None:
    async with open_site(guard=Guard(("box",))) as site:
        site.answer("/x", OK)
        assert (await site.raw(b"GET /x HTTP/1.1\r\nhost: box:3111\r\n\r\n")).status == 200


@pytest.mark.parametrize("value", [b"true", b"null", b"0", b'{"a":1}', b'"false"', None])
async def test_only_false_of_a_condition_blocks(value: bytes | None) -> None:
    async with open_site() as site:
        site.answer("/x", OK, "POST", condition_function_id="t::condition")
        site.function("t::condition", lambda call: call.succeed(value))
        reply = await site.request("POST", "/x", b'{"a":1}', {"content-type": "application/json"})
        assert reply.status == 200
        condition, function = site.data(0), site.data(1)
        assert condition.items() <= function.items()
        assert set(function) - set(condition) == {"request_body", "response"}
        assert site.calls[0].metadata is None


async def test_a_condition_that_says_false_is_422() -> None:
    async with open_site() as site:
        function_id = site.answer("/x", OK, condition_function_id="t::condition")
        site.function("t::condition", lambda call: call.succeed(b"false"))
        reply = await site.get("/x")
        assert reply.status == 422
        assert reply.body == (
            b'{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}'
        )
        assert function_id not in {call.function_id for call in site.calls}


@pytest.mark.parametrize("name", ["nope", ""])
async def test_a_missing_condition_is_500(name: str) -> None:
    async with open_site() as site:
        site.answer("/x", OK, condition_function_id=name)
        reply = await site.get("/x")
        assert (reply.status, reply.json()["error"]["code"]) == (500, "function_not_found")
        assert site.calls == []


async def test_global_middleware_condition_route_middleware_function_in_this_order() -> None:
    middleware = (
        Middleware(function_id="t::late", priority=5),
        Middleware(function_id="t::early", priority=-1),
    )
    async with open_site(middleware=middleware) as site:
        for name in ("late", "early", "own", "condition"):
            site.function(f"t::{name}", lambda call: call.succeed(b'{"action":"continue"}'))
        function_id = site.answer(
            "/u/:id", OK, middleware_function_ids=["t::own", 5], condition_function_id="t::condition"
        )
        assert (await site.get("/u/5?a=1")).status == 200
        order = [call.function_id for call in site.calls]
        assert order == ["t::early", "t::late", "t::condition", "t::own", function_id]
        assert site.data(0) == {
            "phase": "preHandler",
            "request": {
                "path_params": {"id": "5"},
                "query_params": {"a": "1"},
                "headers": {"host": "localhost"},
                "method": "GET",
            },
            "context": {},
        }
        await site.get("/nope")
        assert len(site.calls) == 5


async def test_middleware_may_answer() -> None:
    async with open_site(middleware=(Middleware(function_id="t::auth"),)) as site:
        verdict = {
            "action": "respond",
            "response": {"status_code": 401, "body": {"e": 1}, "headers": {"x": "1"}},
        }
        site.function("t::auth", lambda call: call.succeed(json.dumps(verdict).encode()))
        site.answer("/x", OK)
        reply = await site.get("/x")
        assert (reply.status, reply.json(), reply.header("x")) == (401, {"e": 1}, "1")
        assert len(site.calls) == 1


async def test_an_error_or_a_missing_middleware_is_500() -> None:
    async with open_site() as site:
        site.answer("/x", OK, middleware_function_ids=["t::bad"])
        site.answer("/y", OK, middleware_function_ids=["t::nope"])
        site.function("t::bad", failing("DENIED", "no"))
        assert (await site.get("/x")).json()["error"]["code"] == "DENIED"
        assert (await site.get("/y")).json()["error"]["code"] == "function_not_found"


async def test_the_timeout_is_one_budget_with_middleware_and_condition() -> None:
    async with open_site(default_timeout_ms=80, middleware=(Middleware(function_id="t::slow"),)) as site:
        loop = asyncio.get_running_loop()
        site.function("t::slow", lambda call: loop.call_later(0.05, call.succeed, None))
        site.function("t::slow2", lambda call: loop.call_later(0.05, call.succeed, None))
        site.answer("/x", OK, condition_function_id="t::slow2")
        reply = await site.get("/x")
        assert (reply.status, reply.body) == (504, b"")


async def test_many_requests_run_at_once() -> None:
    async with open_site() as site:
        site.route("/x", never)
        asking = [asyncio.create_task(site.get("/x")) for _ in range(30)]
        await until(lambda: len(site.calls) == 30)
        for number, call in enumerate(reversed(site.calls)):
            call.succeed(b'{"body":%d}' % number)
        replies = await asyncio.gather(*asking)
        assert sorted(reply.json() for reply in replies) == list(range(30))


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with open_site() as site:
        site.route("/slow", never)
        site.answer("/fast", {"body": "fast"})
        reader, writer = await site.connect()
        writer.write(b"GET /slow HTTP/1.1\r\n\r\nGET /fast HTTP/1.1\r\n\r\n")
        await until(lambda: len(site.calls) == 1)
        site.calls[0].succeed(b'{"body":"slow"}')
        assert [(await read_reply(reader)).json() for _ in range(2)] == ["slow", "fast"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\n\r\n", 400),
        (b"get /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nbad header: 1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (b"GET /x HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /" + b"a" * 65534 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /x?" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /x HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /x HTTP/1.1\r\na: " + b"b" * 2_000_000, 431),
    ],
)
async def test_a_bad_head_is_refused_empty_and_closes(data: bytes, status: int) -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        reply = await site.raw(data)
        assert (reply.status, reply.body, reply.header("connection")) == (status, b"", "close")
        assert site.calls == []


POST = b"POST /x HTTP/1.1\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("kind", [b"application/json", b"text/plain"])
@pytest.mark.parametrize("rest", [b"1\r\n[\r\nzz\r\n", b"0\r\n" + b"a: b\r\n" * 101 + b"\r\n"])
async def test_a_request_whose_body_breaks_off_is_refused_and_forgotten(kind: bytes, rest: bytes) -> None:
    async with open_site() as site:
        site.route("/x", never, "POST")
        reader, writer = await site.connect()
        writer.write(POST % kind + rest)
        reply = await read_reply(reader)
        assert (reply.status // 100, reply.body, reply.header("connection")) == (4, b"", "close")
        await until(lambda: site.http.app.in_flight == 0)


async def test_a_broken_body_behind_another_request_costs_that_one_nothing() -> None:
    async with open_site() as site:
        site.route("/slow", never)
        site.route("/x", never, "POST")
        reader, writer = await site.connect()
        writer.write(b"GET /slow HTTP/1.1\r\n\r\n" + POST % b"text/plain" + b"zz\r\n")
        await until(lambda: len(site.calls) == 1)
        assert len(site.calls) == 1
        site.calls[0].succeed(b'{"body":"slow"}')
        assert (await read_reply(reader)).json() == "slow"
        assert (await read_reply(reader)).status == 400
        assert await reader.read() == b""
        await until(lambda: site.http.app.in_flight == 0)


@pytest.mark.parametrize(
    "half",
    [
        b"GET /x HTTP/1.1\r\nhost: a",
        b"GET /x HTTP/1.1\r\n\r\nGET /x",
        b"POST /x HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[1,",
    ],
)
async def test_a_client_that_falls_silent_within_a_request_is_refused(half: bytes) -> None:
    async with open_site(limits=HttpLimits(silence_s=0.1)) as site:
        site.answer("/x", OK)
        site.answer("/x", OK, "POST")
        reader, writer = await site.connect()
        writer.write(half)
        replies = [await read_reply(reader) for _ in range(half.count(b"GET /x") or 1)]
        assert (replies[-1].status, replies[-1].body, replies[-1].header("connection")) == (408, b"", "close")
        assert await reader.read() == b""
        assert [reply.status for reply in replies[:-1]] == [200] * len(site.calls)


async def test_a_client_that_says_nothing_at_all_is_hung_up_on() -> None:
    async with open_site(limits=HttpLimits(silence_s=0.1)) as site:
        reader, _ = await site.connect()
        assert await reader.read() == b""


async def test_a_client_may_fall_silent_while_it_waits_and_while_a_function_reads_its_body() -> None:
    async with open_site() as site:
        site.route("/x", never)
        site.route("/x", never, "POST")
        waiting, uploading, silent = [await site.connect() for _ in range(3)]
        waiting[1].write(b"GET /x HTTP/1.1\r\n\r\n")
        uploading[1].write(b"POST /x HTTP/1.1\r\ncontent-length: 9\r\n\r\nhalf")
        await until(lambda: len(site.calls) == 2 and len(site.http.connections) == 3)
        for connection in list(site.http.connections):
            connection.check_time(HttpLimits().silence_s + 1)
        assert await silent[0].read() == b""
        for call in site.calls:
            call.succeed(b'{"body":1}')
        assert [(await read_reply(reader)).json() for reader, _ in (waiting, uploading)] == [1, 1]


async def test_the_limits_of_a_head_are_served_themselves() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        assert (await site.raw(b"GET /x HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n")).status == 200
        assert (await site.raw(b"GET /x?" + b"a" * 65531 + b" HTTP/1.1\r\n\r\n")).status == 200


async def test_http_1_0_absolute_form_and_no_host_are_served() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        old = await site.raw(b"GET /x HTTP/1.0\r\n\r\n")
        assert (old.status, old.header("connection")) == (200, "close")
        assert (await site.raw(b"GET http://localhost/x?a=1 HTTP/1.1\r\n\r\n")).status == 200
        assert site.data()["query_params"] == {"a": "1"}


async def test_an_upgrade_is_served_as_an_ordinary_request() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        reply = await site.get("/x", connection="upgrade", upgrade="websocket")
        assert reply.status == 200


async def test_expect_100_continue_is_answered_when_the_body_is_wanted() -> None:
    async with open_site() as site:
        site.answer("/x", OK, "POST")
        reader, writer = await site.connect()
        writer.write(
            b"POST /x HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"{}")
        assert (await read_reply(reader)).status == 200


async def test_a_client_that_leaves_does_not_stop_the_function() -> None:
    async with open_site() as site:
        site.route("/x", never)
        _, writer = await site.connect()
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await until(lambda: len(site.calls) == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: site.http.app.in_flight == 0)
        site.calls[0].succeed(b'{"body":1}')
        assert site.http.app.in_flight == 0


async def test_removing_route_and_function_lets_a_running_call_finish() -> None:
    async with open_site() as site:
        function_id = site.route("/x", never)
        asking = asyncio.create_task(site.get("/x"))
        await until(lambda: len(site.calls) == 1)
        site.engine.remove_trigger("tr1")
        site.engine.remove_function(function_id)
        site.calls[0].succeed(b'{"body":1}')
        assert (await asking).json() == 1
        assert (await site.get("/x")).status == 404


async def test_no_channel_is_left_of_answered_requests() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        for _ in range(3):
            await site.get("/x")
        assert site.http.app.in_flight == 0


async def test_tcp_nodelay_is_set() -> None:
    async with open_site() as site:
        site.answer("/x", OK)
        reader, writer = await site.connect()
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await read_reply(reader)
        (connection,) = site.http.connections
        assert connection._transport is not None
        served = connection._transport.get_extra_info("socket")
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_a_taken_port_is_one_sentence() -> None:
    async with open_site() as site, open_site() as other:
        with pytest.raises(PortTaken, match=rf"Port {site.http.port} on 127.0.0.1 is taken .*--http-port"):
            await other.http.start("127.0.0.1", site.http.port)


async def test_stopping_gives_running_calls_their_grace() -> None:
    async with open_site() as site:
        site.route("/x", never)
        reader, writer = await site.connect()
        idle, _idle_writer = await site.connect()
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await until(lambda: len(site.calls) == 1)
        stopping = asyncio.create_task(site.http.stop(5))
        assert await idle.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await site.connect()
        site.calls[0].succeed(b'{"body":1}')
        reply = await read_reply(reader)
        assert (reply.json(), reply.header("connection")) == (1, "close")
        assert await reader.read() == b""
        await stopping


async def test_after_the_grace_running_calls_end_with_invocation_stopped() -> None:
    async with open_site() as site:
        site.route("/x", never)
        asking = asyncio.create_task(site.get("/x"))
        await until(lambda: len(site.calls) == 1)
        await site.http.stop(0.05)
        reply = await asking
        assert (reply.status, reply.json()["error"]["code"]) == (500, "invocation_stopped")
        assert reply.json()["error"]["message"] == "Invocation stopped"


async def test_a_lost_worker_is_invocation_stopped() -> None:
    async with open_site() as site:
        site.route("/x", lambda call: call.reply(Failure("invocation_stopped", "Invocation stopped")))
        reply = await site.get("/x")
        assert (reply.status, reply.json()["error"]["code"]) == (500, "invocation_stopped")


async def test_an_answer_within_the_call_and_a_later_one_are_alike() -> None:
    async with open_site() as site:
        loop = asyncio.get_running_loop()

        def later(call: Call) -> None:
            loop.call_soon(call.succeed, b'{"body":2}')

        site.answer("/now", {"body": 2})
        site.route("/later", later)
        assert (await site.get("/now")).body == (await site.get("/later")).body == b"2"


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_worker_that_never_answers_keeps_no_call_past_the_timeout(*, leaves: bool) -> None:
    async with open_site(default_timeout_ms=10_000) as site:
        worker = Peer(site.engine, identify=False)
        worker.release()
        worker.register("w::never")
        worker.bind("http", "w::never", {"api_path": "/w"})
        reader, writer = await site.connect()
        writer.write(b"GET /w HTTP/1.1\r\n\r\n")
        await until(lambda: site.engine.in_flight == 1)
        if leaves:
            writer.transport.abort()
            await until(lambda: site.http.app.in_flight == 0)
            assert site.engine.in_flight == 1
            pass_time(10)
        else:
            pass_time(10)
            assert (await read_reply(reader)).status == 504
        await until(lambda: site.engine.in_flight == 0)


@pytest.mark.parametrize(
    "result",
    [
        b'{"body":NaN}', b'{"body":-Infinity}', b'{"body":1e999}', b'{"body":"\\ud800"}', b'{"body":"\xff"}',
        b'{"body":%b}' % (b"[" * 2000 + b"]" * 2000), b'{"body":%b}' % (b"[" * 200 + b"]" * 200), b"01",
        b'{"invocation_id":"00000000-0000-4000-8000-000000000000","body":NaN}',
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_read_is_an_error_at_once(result: bytes) -> None:
    async with open_site() as site:
        worker = Peer(site.engine, identify=False)
        worker.release()
        worker.register("w::avg")
        worker.bind("http", "w::avg", {"api_path": "/w"})
        worker.received()
        reader, writer = await site.connect()
        writer.write(b"GET /w HTTP/1.1\r\n\r\n")
        await until(lambda: site.engine.in_flight == 1)
        (call,) = worker.received()
        worker.send(
            b'{"type":"invocationresult","invocation_id":"%b","function_id":"w::avg","result":%b}'
            % (call["invocation_id"].encode(), result)
        )
        reply = await read_reply(reader)
        error = reply.json()["error"]
        assert (reply.status, error["code"]) == (500, "payload_unreadable")
        assert "The answer of w::avg" in error["message"]
        assert site.engine.in_flight == 0
