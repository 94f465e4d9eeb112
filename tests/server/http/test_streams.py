"""Bodies and answers through the channels of a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.peers import pass_time
from support.site import Reply, Site, chunks, never, open_site, read_reply, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from iii_skill.calls import Failure
from iii_skill.engine.channel import Channel
from iii_skill.server.http.limits import HttpLimits

JSON = {"content-type": "application/json"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


async def begin(
    site: Site, method: str = "GET", body: bytes | None = None, **headers: str
) -> asyncio.Task[Reply]:
    """A request whose function does not answer yet."""
    site.route("/x", never, method)
    asking = asyncio.create_task(site.request(method, "/x", body, headers))
    await until(lambda: len(site.calls) > 0)
    return asking


def status(code: Any) -> str:
    return json.dumps({"type": "set_status", "status_code": code})


def set_headers(headers: Any) -> str:
    return json.dumps({"type": "set_headers", "headers": headers})


async def everything(socket: ClientConnection) -> list[str | bytes]:
    async with asyncio.timeout(20):
        return [message async for message in socket]


async def test_status_headers_data_and_close_make_a_chunked_answer(site: Site) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(status(201))
        await w.send(set_headers({"content-type": "text/event-stream", "x-n": 5, "content-length": "9"}))
        await w.send(b"data: 1\n\n")
        await w.send(b"data: 2\n\n")
    reply = await asking
    assert (reply.status, reply.body) == (201, b"data: 1\n\ndata: 2\n\n")
    assert reply.header("transfer-encoding") == "chunked"
    assert reply.header("content-type") == "text/event-stream"
    assert reply.header("content-length") is None
    assert reply.header("x-n") is None
    assert reply.header("access-control-allow-origin") == "*"


async def test_a_close_alone_is_an_empty_200_without_a_type(site: Site) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])):
        pass
    reply = await asking
    assert (reply.status, reply.body, reply.header("content-type")) == (200, b"", None)


async def test_chunks_leave_at_once(site: Site) -> None:
    site.route("/x", never)
    reader, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"one")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"one\r\n") == b"3\r\none\r\n"
        await w.send(b"two")
        assert await reader.readuntil(b"two\r\n") == b"3\r\ntwo\r\n"
    assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "hello", "{", "[]", "5", '{"type":"other"}', status("201"), status(600), status(99), status(20.5),
        status(True), set_headers(["x: 1"]), set_headers(None), '{"type":"set_status"}',
    ],
)  # fmt: skip
async def test_control_texts_that_say_nothing_are_ignored(site: Site, text: str) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(text)
        await w.send(b"x")
    assert ((await asking).status, (await asking).body) == (200, b"x")


async def test_control_after_the_head_is_ignored(site: Site) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await w.send(status(500))
        await w.send(b"b")
    assert ((await asking).status, (await asking).body) == (200, b"ab")


@pytest.mark.parametrize("code", [204, 304])
async def test_a_streamed_status_without_a_body_drops_it(site: Site, code: int) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(status(code))
        await w.send(b"dropped")
    assert ((await asking).status, (await asking).body) == (code, b"")


async def test_an_answer_before_data_wins_and_the_references_end(site: Site) -> None:
    asking = await begin(site)
    url = site.channel_url(site.data()["response"])
    async with connect(url) as w:
        await w.send(status(201))
        await (await w.ping())
        site.calls[0].succeed(b'{"body":"answer"}')
        reply = await asking
        assert (reply.status, reply.body) == (200, b'"answer"')
        await w.send(b"late")
        with pytest.raises(ConnectionClosed):
            await w.recv()
        assert w.close_code == 1006
    for ref in ("response", "request_body"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(site.channel_url(site.data()[ref]))
        assert refused.value.response.status_code == 404


@pytest.mark.parametrize("late", [b'{"status_code":404,"body":"late"}', b"null", None])
async def test_data_before_an_answer_wins(site: Site, late: bytes | None) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await (await w.ping())
        site.calls[0].succeed(late)
        await w.send(b"b")
    assert ((await asking).status, (await asking).body) == (200, b"ab")


async def test_an_error_before_data_is_500(site: Site) -> None:
    asking = await begin(site)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(status(201))
        await (await w.ping())
        site.calls[0].reply(Failure("E", "m"))
        assert (await asking).status == 500


async def test_a_null_answer_waits_for_a_channel_that_opens_later(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    asking = await begin(site)
    site.calls[0].succeed(b"null")
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(status(202))
        await w.send(b"x")
    assert ((await asking).status, (await asking).body) == (202, b"x")
    assert caplog.text == ""


async def test_a_stream_may_take_longer_than_the_timeout() -> None:
    async with open_site(default_timeout_ms=10_000) as site:
        site.route("/y", never)
        asking = await begin(site)
        async with connect(site.channel_url(site.data()["response"])) as w:
            await w.send(b"a")
            await (await w.ping())
            later = asyncio.create_task(site.get("/y"))
            await until(lambda: len(site.calls) == 2)
            # That of a request that came later is over too.
            pass_time(11)
            assert (await later).status == 504
            await w.send(b"b")
        assert (await asking).body == b"ab"


async def test_a_client_that_leaves_ends_the_stream_for_its_writer(site: Site) -> None:
    site.route("/x", never)
    _, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await (await w.ping())
        writer.transport.abort()
        await until(lambda: site.http.app.in_flight == 0)
        await w.send(b"b")
        with pytest.raises(ConnectionClosed):
            await w.recv()


async def test_a_client_that_leaves_with_another_request_waiting_ends_the_stream_too(site: Site) -> None:
    site.route("/x", never)
    _, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n" * 2)
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await (await w.ping())
        writer.transport.abort()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await w.send(b"b")
                await (await w.ping())
    await until(lambda: site.http.app.in_flight == 0)
    assert len(site.calls) == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_stream_whose_writer_is_lost_does_not_look_complete(site: Site, version: bytes) -> None:
    site.route("/x", never)
    reader, writer = await site.connect()
    writer.write(b"GET /x HTTP/%b\r\n\r\n" % version)
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"part")
        await (await w.ping())
        w.transport.abort()
    try:
        received = await reader.read()
    except ConnectionError:
        received = b""
    assert b"0\r\n\r\n" not in received
    assert b"content-length" not in received
    await until(lambda: not site.http.connections)


@pytest.mark.parametrize("null", [True, False])
async def test_a_writer_that_is_lost_before_it_sends_leaves_the_answer_to_the_function(
    site: Site, *, null: bool
) -> None:
    asking = await begin(site)
    if null:
        site.calls[0].succeed(b"null")
    w = await connect(site.channel_url(site.data()["response"]))
    w.transport.abort()
    if not null:
        ref = site.data()["response"]
        await until(lambda: _channel(site, ref).finished)
        site.calls[0].succeed(b'{"body":"answer"}')
        assert (await asking).json() == "answer"
    else:
        reply = await asking
        assert (reply.status, reply.json()["error"]["code"]) == (500, "invocation_stopped")


def _channel(site: Site, ref: dict[str, str]) -> Channel:
    channel = site.engine.channels.find(ref["channel_id"], ref["access_key"])
    assert channel is not None
    return channel


async def test_a_client_of_http_1_0_gets_the_stream_in_one_piece(site: Site) -> None:
    site.route("/x", never)
    asking = asyncio.create_task(site.raw(b"GET /x HTTP/1.0\r\n\r\n"))
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await w.send(b"b")
    reply = await asking
    assert (reply.header("content-length"), reply.body) == ("2", b"ab")


async def test_stopping_cuts_a_stream(site: Site) -> None:
    site.route("/x", never)
    reader, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
        await reader.readuntil(b"a\r\n")
        await site.http.stop(0.05)
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b'{"a": 1}'),
        (JSON, b"not json"),
        ({"content-type": "text/plain"}, b"text"),
        ({}, bytes(range(256))),
    ],
)
async def test_the_raw_body_is_always_on_request_body(
    site: Site, headers: dict[str, str], body: bytes
) -> None:
    asking = await begin(site, "POST", body, **headers)
    async with connect(site.channel_url(site.data()["request_body"])) as r:
        assert await everything(r) == [body]
        assert r.close_code == 1005
    site.calls[0].succeed(b'{"body":1}')
    assert (await asking).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_a_body_request_body_closes_at_once(site: Site, method: str) -> None:
    asking = await begin(site, method)
    async with connect(site.channel_url(site.data()["request_body"])) as r:
        assert await everything(r) == []
    site.calls[0].succeed(b'{"body":1}')
    await asking


async def test_a_second_reader_is_closed_at_once(site: Site) -> None:
    asking = await begin(site, "POST", b"x")
    url = site.channel_url(site.data()["request_body"])
    async with connect(url) as first, connect(url) as second:
        assert await everything(second) == []
        assert await everything(first) == [b"x"]
    site.calls[0].succeed(b'{"body":1}')
    await asking


async def test_a_large_json_body_comes_in_messages_that_every_sdk_takes() -> None:
    async with open_site(limits=HttpLimits(max_body_bytes=8 << 20)) as site:
        body = json.dumps("x" * (3 << 20)).encode()
        asking = await begin(site, "POST", body, **JSON)
        async with connect(site.channel_url(site.data()["request_body"])) as r:
            parts = await everything(r)
        assert b"".join(part for part in parts if isinstance(part, bytes)) == body
        assert max(len(part) for part in parts) == 64 * 1024
        site.calls[0].succeed(b'{"body":1}')
        assert (await asking).status == 200


async def test_an_unread_body_does_not_hold_the_answer(site: Site) -> None:
    asking = await begin(site, "POST", bytes(5 << 20))
    site.calls[0].succeed(b'{"body":1}')
    assert (await asking).json() == 1


async def test_a_client_that_leaves_midway_does_not_look_like_the_end_of_its_body(site: Site) -> None:
    site.route("/x", never, "POST")
    _, writer = await site.connect()
    writer.write(b"POST /x HTTP/1.1\r\ncontent-length: 100\r\n\r\nhalf")
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["request_body"])) as r:
        assert await r.recv() == b"half"
        writer.transport.abort()
        with pytest.raises(ConnectionClosed):
            await r.recv()
        assert r.close_code == 1006


async def test_forty_megabytes_go_up_and_come_down_in_bounded_memory(site: Site) -> None:
    site.route("/x", never, "POST")
    block = bytes(range(256)) * 256
    count = 640
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, writer = await site.connect()

    async def upload() -> None:
        writer.write(f"POST /x HTTP/1.1\r\ncontent-length: {count * len(block)}\r\n\r\n".encode())
        for _ in range(count):
            writer.write(block)
            await writer.drain()

    async def echo() -> int:
        """Sends the body back as it comes."""
        await until(lambda: len(site.calls) == 1)
        data = site.data()
        passed = 0
        async with (
            connect(site.channel_url(data["request_body"]), max_queue=4) as r,
            connect(site.channel_url(data["response"])) as w,
        ):
            async for part in r:
                passed += len(part)
                await w.send(part)
        return passed

    async def download() -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        got = 0
        async for part in chunks(reader):
            assert block.startswith(part[:256]) or part[:256] in block + block
            got += len(part)
        return got

    async with asyncio.timeout(60):
        _, passed, got = await asyncio.gather(upload(), echo(), download())
    assert passed == got == count * len(block)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024


async def test_a_slow_download_holds_the_writer_back(site: Site) -> None:
    site.route("/x", never)
    reader, writer = await site.connect(limit=1 << 16)
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    block, count = bytes(64 * 1024), 640
    ref = site.data()["response"]
    channel = site.engine.channels.find(ref["channel_id"], ref["access_key"])
    assert channel is not None

    async def send() -> None:
        async with connect(site.channel_url(ref)) as w:
            for _ in range(count):
                await w.send(block)

    sending = asyncio.create_task(send())
    await until(lambda: channel.full)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    got = peak = 0
    async for part in chunks(reader):
        peak = max(peak, channel.bytes_queued)
        got += len(part)
    assert got == count * len(block)
    assert peak <= 16 << 20
    await sending


async def test_after_a_stream_the_connection_serves_on(site: Site) -> None:
    site.route("/x", never)
    site.answer("/y", {"body": "next"})
    reader, writer = await site.connect()
    writer.write(b"GET /x HTTP/1.1\r\n\r\n")
    await until(lambda: len(site.calls) == 1)
    async with connect(site.channel_url(site.data()["response"])) as w:
        await w.send(b"a")
    assert (await read_reply(reader)).body == b"a"
    writer.write(b"GET /y HTTP/1.1\r\n\r\n")
    assert (await read_reply(reader)).json() == "next"
