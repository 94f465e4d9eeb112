"""What HTTP clients may cost: memory, time and work are bounded, and what is over leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.peers import Peer
from support.site import Site, never, open_site, read_reply, until
from websockets.asyncio.client import connect

from iii_skill.calls import Call
from iii_skill.server.http.body import Body
from iii_skill.server.http.exchange import Exchange
from iii_skill.server.http.limits import MAX_HEAD, HttpLimits
from iii_skill.server.http.protocol import HttpConnection

JSON = b"content-type: application/json\r\n"
MEBIBYTE = 1 << 20
KINDS = (Exchange, Body, HttpConnection, Call)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


@contextmanager
def without_collector() -> Iterator[None]:
    """Only what reference counts free is freed inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> dict[str, int]:
    """How many objects there are of what a request is made of."""
    counts: dict[str, int] = {}
    for thing in gc.get_objects():
        if type(thing) in KINDS:  # a weak proxy has the class of what it stands for
            counts[type(thing).__name__] = counts.get(type(thing).__name__, 0) + 1
    return counts


class Echo(Peer):
    """A worker at `/w` whose calls a test answers."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.engine, identify=False)
        self.release()
        self.register("w::f")
        for method in ("GET", "POST"):
            self.bind("http", "w::f", {"api_path": "/w", "http_method": method})
        self.received()

    async def next(self) -> dict[str, Any]:
        """The next call."""
        calls: list[dict[str, Any]] = []

        def came() -> bool:
            calls.extend(self.received())
            return bool(calls)

        await until(came)
        return calls[0]


def post(size: int, *, head: bytes = JSON) -> bytes:
    body = json.dumps("x" * (size - 2)).encode()
    return b"POST /w HTTP/1.1\r\n" + head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /w HTTP/1.1\r\n\r\n",
        post(5000),
        post(5000, head=b"content-type: text/plain\r\n"),
        post(5000, head=JSON + b"connection: upgrade\r\nupgrade: h2c\r\n"),
    ],
)
async def test_answered_requests_leave_nothing_to_the_collector(site: Site, request_bytes: bytes) -> None:
    worker = Echo(site)
    with without_collector():
        for _ in range(20):
            reader, writer = await site.connect()
            for outcome in ({"result": {"body": 1}}, {"error": {"code": "E", "message": "m"}}):
                writer.write(request_bytes)
                worker.answer(await worker.next(), **outcome)
                await read_reply(reader)
            writer.close()
            await writer.wait_closed()
        await until(lambda: not site.http.connections)
        await until(lambda: alive() == {})
    assert site.http._shared.bodies.used == 0


async def test_refused_requests_leave_nothing_to_the_collector(site: Site) -> None:
    refused = [
        b"GET /nope HTTP/1.1\r\n\r\n", b"garbage\r\n\r\n", b"GET /w HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"DELETE /w HTTP/1.1\r\n\r\n", post(2 * MEBIBYTE), b"OPTIONS /w HTTP/1.1\r\n\r\n",
        b"POST /w HTTP/1.1\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ]  # fmt: skip
    Echo(site)
    with without_collector():
        for data in refused * 3:
            reply = await site.raw(data)
            assert reply.status in (200, 400, 403, 404, 405, 413)
        await until(lambda: not site.http.connections)
        await until(lambda: alive() == {})
    assert site.http._shared.bodies.used == 0


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("sent", [1.0, 0.5])
@pytest.mark.parametrize("head", [JSON, b""])
async def test_abandoned_requests_leave_nothing_to_the_collector(
    head: bytes, sent: float, *, answers: bool
) -> None:
    async with open_site(default_timeout_ms=200) as site:
        worker = Echo(site)
        data = post(50_000, head=head)
        with without_collector():
            for _ in range(20):
                _, writer = await site.connect()
                writer.write(data[: int(len(data) * sent)])
                call = None
                if sent == 1.0 or head == b"":
                    call = await worker.next()
                else:
                    await until(lambda: site.http._shared.bodies.used > 0)
                writer.transport.abort()
                await until(lambda: not site.http.connections)
                if call is not None and answers:
                    worker.answer(call, result={"body": 1})
            await until(lambda: not site.engine.in_flight)
            await until(lambda: alive() == {})
        assert site.http._shared.bodies.used == 0


async def test_streamed_requests_leave_nothing_to_the_collector(site: Site) -> None:
    worker = Echo(site)
    with without_collector():
        for cut in (False, True):
            reader, writer = await site.connect()
            writer.write(post(200_000, head=b""))
            data = (await worker.next())["data"]
            async with (
                connect(site.channel_url(data["request_body"])) as body,
                connect(site.channel_url(data["response"])) as response,
            ):
                assert len(await body.recv()) == 64 * 1024
                await response.send(b"part")
                await reader.readuntil(b"part\r\n")
                if cut:
                    writer.transport.abort()
                    await until(lambda: not site.http.connections)
            writer.close()
        del body, response, data
        await until(lambda: not site.http.connections and site.http.app.in_flight == 0)
        await until(lambda: not alive().keys() - {"Call"})
    assert site.http._shared.bodies.used == 0


async def test_a_body_is_held_once_while_its_request_is_in_flight() -> None:
    async with open_site(limits=HttpLimits(max_body_bytes=16 * MEBIBYTE)) as site:
        size = 8 * MEBIBYTE
        site.route("/w", never, "POST")
        data = post(size)
        reader, writer = await site.connect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            writer.write(data)
            await writer.drain()
            await until(lambda: len(site.calls) == 1)
            held = tracemalloc.get_traced_memory()[0] - before
            assert held < 1.3 * size
            ref = json.loads(site.calls[0].data)["request_body"]
            got = 0
            async with connect(site.channel_url(ref)) as r:
                async for part in r:
                    got += len(part)
            assert got == size
        finally:
            tracemalloc.stop()
        site.calls[0].succeed(b'{"body":1}')
        assert (await read_reply(reader)).status == 200


async def test_a_body_in_flight_is_counted_once() -> None:
    async with open_site() as site:
        site.route("/w", never, "POST")
        for size in (500, 50_000, 500_000):
            _, writer = await site.connect()
            writer.write(post(size))
        await until(lambda: len(site.calls) == 3)
        assert site.http._shared.bodies.used == 500 + 50_000 + 500_000
        for call in site.calls:
            call.succeed(b"{}")
        assert site.http._shared.bodies.used == 0


async def test_bodies_of_all_connections_together_are_bounded() -> None:
    limits = HttpLimits(max_body_bytes=MEBIBYTE, max_bodies_bytes=2 * MEBIBYTE)
    async with open_site(limits=limits) as site:
        site.answer("/w", {"body": 1}, "POST")
        half = post(MEBIBYTE - 10)[: MEBIBYTE // 2]
        waiting = []
        for _ in range(3):
            waiting.append(await site.connect())
            waiting[-1][1].write(half)
            await until(lambda: site.http._shared.bodies.used >= len(waiting) * (MEBIBYTE // 2 - 200))
        reader, writer = await site.connect()
        writer.write(post(MEBIBYTE - 10))
        reply = await read_reply(reader)
        assert (reply.status, reply.json()["error"]["code"]) == (503, "BUSY")
        assert reply.header("connection") == "close"
        for _, writer in waiting:
            writer.transport.abort()
        await until(lambda: site.http._shared.bodies.used == 0)
        assert (await site.raw(post(MEBIBYTE - 10))).status == 200


@pytest.mark.parametrize("size", [MAX_HEAD, MAX_HEAD + 1])
@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("cut", [1 << 20, 1000])
async def test_all_lines_of_a_head_together_have_a_limit(size: int, count: int, cut: int) -> None:
    async with open_site() as site:
        site.answer("/x", {"body": 1})
        start, end = b"GET /x HTTP/1.1\r\n", b"\r\n"
        lines = [b"a: " + b"v" * 1000 + b"\r\n"] * (count - 1)
        left = size + len(b"/x") - len(start) - len(b"".join(lines)) - len(end)
        data = b"".join((start, *lines, b"a: " + b"v" * (left - 5) + b"\r\n", end))
        assert len(data) - len(b"/x") == size
        reader, writer = await site.connect()
        for begin in range(0, len(data), cut):
            writer.write(data[begin : begin + cut])
            await asyncio.sleep(0)
        assert (await read_reply(reader)).status == (200 if size <= MAX_HEAD else 431)


@pytest.mark.parametrize(
    "flood",
    [b"0\r\n" + b"a: %b\r\n" % (b"v" * 300_000), b"5;" + b"x" * 300_000, b"0\r\n" + b"a: b\r\n" * 200],
)
async def test_trailers_and_chunk_extensions_have_a_limit(site: Site, flood: bytes) -> None:
    site.route("/w", never, "POST")
    reply = await site.raw(b"POST /w HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + flood)
    assert (reply.status, reply.header("connection")) == (431, "close")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"", b"0\r\n" + b"a: b\r\n" * 200])
async def test_an_answered_request_gets_no_second_answer_when_its_body_breaks_off(rest: bytes) -> None:
    async with open_site(limits=HttpLimits(silence_s=0.1)) as site:
        reader, writer = await site.connect()
        writer.write(b"POST /nope HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + rest)
        async with asyncio.timeout(20):
            assert (await reader.read()).count(b"HTTP/1.1 ") == 1


async def test_a_client_that_leaves_with_requests_waiting_is_noticed(site: Site) -> None:
    site.route("/w", never)
    _, writer = await site.connect()
    writer.write(b"GET /w HTTP/1.1\r\n\r\n" * 5)
    await until(lambda: len(site.calls) == 1)
    writer.transport.abort()
    await until(lambda: not site.http.connections)
    assert site.http.app.in_flight == 0


SLOW = HttpLimits(silence_s=0.1, keep_alive_s=0.1, rate=1 << 20)


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"", b"\r\n"),
        (b"GET /w HTTP/1.1\r\n", b"a: b\r\n"),
        (b"GET /w HTTP/1.1\r\na: ", b"b"),
        (b"POST /w HTTP/1.1\r\n" + JSON + b"content-length: 100000\r\n\r\n[", b" "),
        (b"POST /w HTTP/1.1\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n1\r\n"),
        (b"POST /w HTTP/1.1\r\n" + JSON + b"transfer-encoding: chunked\r\n\r\n1;", b"x"),
        (b"POST /nope HTTP/1.1\r\ncontent-length: 100000\r\n\r\n[", b" "),
    ],
)
async def test_a_client_that_keeps_dripping_bytes_is_ended(head: bytes, drip: bytes) -> None:
    async with open_site(limits=SLOW) as site:
        site.answer("/w", {"body": 1}, "POST")
        reader, writer = await site.connect()
        writer.write(head)
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(20):
            while not reading.done():
                writer.write(drip)
                await asyncio.sleep(0.01)
        try:
            answer = await reading
        except ConnectionError:
            answer = b""
        assert answer == b"" or (b" 404 " if b"/nope" in head else b" 408 ") in answer
        assert site.calls == []
        await until(lambda: not site.http.connections)


async def test_a_body_that_comes_fast_enough_may_take_longer_than_the_silence() -> None:
    async with open_site(limits=HttpLimits(silence_s=10, rate=1000)) as site:
        site.answer("/w", {"body": 1}, "POST")
        data = post(20_000)
        reader, writer = await site.connect()
        (connection,) = [one async for one in _connections(site)]
        for start in range(0, len(data), 1000):
            writer.write(data[start : start + 1000])
            if start + 1000 < len(data):
                await until(lambda: site.http._shared.bodies.used > start)  # noqa: B023
                connection.check_time(0.9)
        assert (await read_reply(reader)).status == 200


async def test_a_client_that_does_not_read_gets_no_more_work_done(site: Site) -> None:
    answer = json.dumps({"body": "x" * 500_000}).encode()
    site.route("/w", lambda call: call.succeed(answer))
    reader, writer = await site.connect(limit=1 << 16)
    count = 500
    writer.write(b"GET /w HTTP/1.1\r\n\r\n" * count)
    (connection,) = [one async for one in _connections(site)]
    await until(lambda: not connection.writable)
    before = len(site.calls)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(site.calls) == before < 50
    for _ in range(count):
        assert (await read_reply(reader)).status == 200
    assert len(site.calls) == count
    await until(lambda: site.http._shared.unread.used == 0)


async def _connections(site: Site) -> AsyncIterator[HttpConnection]:
    await until(lambda: bool(site.http.connections))
    for connection in site.http.connections:
        yield connection


@pytest.mark.parametrize("close", [b"", b"connection: close\r\n"])
async def test_a_client_that_reads_nothing_of_its_answer_is_hung_up_on(close: bytes) -> None:
    async with open_site(limits=HttpLimits(silence_s=0.1)) as site:
        site.answer("/w", {"body": "x" * (16 * MEBIBYTE)})
        reader, writer = await site.connect(limit=1 << 10)
        writer.write(b"GET /w HTTP/1.1\r\n" + close + b"\r\n")
        await until(lambda: site.http._shared.unread.used > 0)
        await until(lambda: not site.http.connections)
        assert site.http._shared.unread.used == 0
        reader.feed_eof()


async def test_answers_that_nobody_reads_are_bounded_over_all_clients() -> None:
    async with open_site(limits=HttpLimits(max_unread_bytes=40 * MEBIBYTE)) as site:
        # More than what the sockets of a connection hold by themselves.
        site.answer("/w", {"body": "x" * (30 * MEBIBYTE)})
        site.answer("/small", {"body": "x"})
        _, writer = await site.connect(limit=1 << 10)
        writer.write(b"GET /w HTTP/1.1\r\n\r\n")
        await until(lambda: site.http._shared.unread.used > 0)
        refused = await site.get("/w")
        assert (refused.status, refused.json()["error"]["code"]) == (503, "BUSY")
        assert (await site.get("/small")).status == 200


async def test_clients_at_a_time_are_bounded_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with open_site(limits=HttpLimits(max_connections=3)) as site:
        site.answer("/x", {"body": 1})
        clients = [await site.connect() for _ in range(3)]
        await until(lambda: len(site.http.connections) == 3)
        for _ in range(5):
            reader, _ = await site.connect()
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
        assert len([r for r in caplog.records if "3 HTTP clients" in r.getMessage()]) == 1
        clients[0][1].close()
        await until(lambda: len(site.http.connections) == 2)
        assert (await site.get("/x")).status == 200


async def test_pipelined_requests_of_one_client_do_not_hold_up_another(site: Site) -> None:
    site.answer("/x", {"body": 1})
    _, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n" * 10_000)
    await until(lambda: len(site.calls) > 0)
    assert (await site.get("/x")).status == 200
    assert len(site.calls) < 5000


@pytest.mark.parametrize(
    "text", [b"[],", b'{"a":1},', b'"\\u00e9",', b"1.5, ", b"[" * 100 + b"]" * 100 + b","]
)
async def test_a_long_body_does_not_hold_up_another_caller(text: bytes) -> None:
    async with open_site(limits=HttpLimits(max_body_bytes=64 * MEBIBYTE)) as site:
        site.route("/w", never, "POST")
        site.answer("/x", {"body": 1})
        body = b"[" + text * (20_000_000 // len(text)) + b"0]"
        _, writer = await site.connect()
        writer.write(b"POST /w HTTP/1.1\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        between = 0
        while len(site.calls) == between:
            assert (await site.get("/x")).status == 200
            between += 1
        assert between > 5
        assert site.data(-1 if site.calls[-1].function_id == "t::f1" else -2)["body"][-1] == 0


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b"[" * 200 + b"0" * 200_000 + b"]" * 200, b"[NaN]" + b" " * 200_000]
)
async def test_a_long_body_that_is_no_json_arrives_as_null_and_raw_on_its_channel(body: bytes) -> None:
    async with open_site() as site:
        site.route("/w", never, "POST")
        reader, writer = await site.connect()
        writer.write(b"POST /w HTTP/1.1\r\n" + JSON + b"content-length: %d\r\n\r\n" % len(body) + body)
        await until(lambda: len(site.calls) == 1)
        assert site.data()["body"] is None
        got = b""
        async with connect(site.channel_url(site.data()["request_body"])) as r:
            async for part in r:
                assert isinstance(part, bytes)
                got += part
        assert got == body
        site.calls[0].succeed(b'{"body":1}')
        assert (await read_reply(reader)).status == 200


async def test_headers_of_an_answer_are_bounded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.answer("/w", {"headers": {f"h{number}": "v" for number in range(100_000)}, "body": 1})
    reply = await site.get("/w")
    assert (reply.status, reply.json()["error"]["code"]) == (500, "invalid_response")
    assert "headers of the answer have" in caplog.text


@pytest.mark.parametrize("text", [b"[],", b'{"a":1},', b"1.5,", b"[" * 100 + b"]" * 100 + b","])
async def test_a_long_answer_does_not_hold_up_another_caller(site: Site, text: bytes) -> None:
    body = b"[" + text * (20_000_000 // len(text)) + b"0]"
    site.route("/w", never)
    site.answer("/x", {"body": 1})
    reader, writer = await site.connect()
    writer.write(b"GET /w HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    site.calls[0].succeed(b'{"headers":{"x-a":"1"},"body":%b,"status_code":201}' % body)
    reading = asyncio.create_task(read_reply(reader))
    between = 0
    while not reading.done():
        assert (await site.get("/x")).status == 200
        between += 1
    reply = reading.result()
    assert between > 5
    assert (reply.status, reply.header("x-a")) == (201, "1")
    assert reply.body == body


async def test_a_client_that_leaves_a_long_answer_leaves_nothing(site: Site) -> None:
    site.route("/w", never)
    _, writer = await site.connect()
    writer.write(b"GET /w HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    with without_collector():
        site.calls.pop().succeed(b'{"body":[%b0]}' % (b"[]," * 4_000_000))
        writer.transport.abort()
        await until(lambda: not site.http.connections and not site.http.app._inspections)
        await until(lambda: alive() == {})
