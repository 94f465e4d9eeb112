"""The worker port over real sockets: upgrades, frames, limits, closes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from support.client import WAIT_S, RawClient, raw_client
from support.peers import pass_time
from support.site import until

from iii_skill.config import Config, Cors, HttpSettings, StateConfig, WorkerListener
from iii_skill.errors import ConfigurationError, PortTaken
from iii_skill.host import Host
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.server.frames import FRAGMENT, masked_text_frames, text_frames

STATE = StateConfig(adapter_name="memory")


@pytest.fixture
def grace_ms() -> int:
    return 50


@pytest.fixture
async def host(grace_ms: int) -> AsyncIterator[Host]:
    worker = WorkerListener(port=0, grace_ms=grace_ms)
    host = Host(Config(state=STATE, worker=worker, http=HttpSettings(port=0)))
    await host.open()
    await host.serve()
    yield host
    await host.close()


async def url_of(host: Host) -> str:
    return (await host.serve()).ws_url


@pytest.fixture
async def client(host: Host) -> AsyncIterator[RawClient]:
    async with raw_client(await url_of(host)) as client:
        yield client


async def exchange(host: Host, request: str) -> bytes:
    """One raw HTTP request on the worker port; everything that comes back."""
    port = int((await url_of(host)).rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.replace("\n", "\r\n").encode())
    answer = await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    await writer.wait_closed()
    return answer


UPGRADE = (
    "GET %s HTTP/1.1\nHost: %s\nUpgrade: websocket\nConnection: Upgrade\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n%s\n"
)


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (UPGRADE % ("/nowhere", "localhost", ""), 404),
        (UPGRADE % ("//[::", "localhost", ""), 404),
        (UPGRADE % ("/ws/channels/nope?key=x&dir=read", "localhost", ""), 404),
        ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
        (UPGRADE % ("/", "evil.example", ""), 403),
        (UPGRADE % ("/", "localhost", "Origin: https://evil.example\n"), 403),
        (UPGRADE % ("/otel", "localhost", "Origin: null\n"), 403),
    ],
)
async def test_what_is_not_a_worker_is_refused_before_anything_happens(
    host: Host, request_text: str, status: int
) -> None:
    answer = await exchange(host, request_text)
    assert answer.split(b" ")[1] == str(status).encode()
    assert host.engine.workers == {}


async def test_a_browser_page_of_this_machine_is_let_in(host: Host) -> None:
    url = await url_of(host)
    async with websockets.connect(url, origin=websockets.Origin("http://localhost:5173")) as socket:
        assert json.loads(await socket.recv())["type"] == "workerregistered"


async def test_query_and_headers_of_a_worker_are_ignored(host: Host) -> None:
    async with raw_client(await url_of(host) + "/?a=b") as client:
        assert await client.result("state::get", {"scope": "s", "key": "k"}) is None


async def test_calls_that_arrive_together_are_answered_in_order(client: RawClient) -> None:
    answers = await asyncio.gather(
        *(client.result("state::set", {"scope": "s", "key": "k", "value": n}) for n in range(200))
    )
    assert [answer["old_value"] for answer in answers] == [None, *range(199)]


@contextlib.asynccontextmanager
async def raw_stream(host: Host) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A worker's connection as bytes, behind the greeting."""
    port = int((await url_of(host)).rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((UPGRADE % ("/", "localhost", "")).replace("\n", "\r\n").encode())
    await asyncio.wait_for(reader.readuntil(b"workerregistered"), WAIT_S)
    await asyncio.wait_for(reader.readuntil(b"}"), WAIT_S)
    yield reader, writer
    writer.close()
    await writer.wait_closed()


def calls(*function_ids: str) -> bytes:
    """The frames of several calls."""
    texts = [
        json.dumps(
            {
                "type": "invokefunction",
                "invocation_id": str(uuid.uuid4()),
                "function_id": function_id,
                "data": {"scope": "s", "key": "k"},
            }
        ).encode()
        for function_id in function_ids
    ]
    return masked_text_frames(texts)


async def test_half_a_frame_behind_a_call_does_not_hold_its_answer_up(host: Host) -> None:
    async with raw_stream(host) as (reader, writer):
        whole = calls("state::get", "state::get")
        for part in (whole[:-10], whole[-10:]):
            writer.write(part)
            await asyncio.wait_for(reader.readuntil(b'"state::get"'), WAIT_S)


@pytest.mark.parametrize("size", [0, 1, 60, 125, 126, 65_400, 65_535, 65_536, 200_000, 9_000_000, 20_000_000])
async def test_values_of_any_size_come_back(client: RawClient, size: int) -> None:
    value = "x" * size
    await client.result("state::set", {"scope": "s", "key": "k", "value": value})
    assert await client.result("state::get", {"scope": "s", "key": "k"}) == value


async def test_binary_json_works_and_telemetry_is_drained(host: Host, client: RawClient) -> None:
    await client.socket.send(b"OTLP{not json")
    await client.socket.send(b"MTRC....")
    await client.socket.send(json.dumps({"type": "ping"}).encode())
    await client.wait_for("pong")
    async with websockets.connect(await url_of(host) + "/otel") as telemetry:
        await telemetry.send(b"OTLP{}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(telemetry.recv(), 0.05)


async def test_fragments_are_joined(client: RawClient) -> None:
    text = json.dumps({"type": "ping"})
    await client.socket.send(iter([text[:5], text[5:9], text[9:]]))
    await client.wait_for("pong")


async def test_malformed_frames_end_no_connection(host: Host, client: RawClient) -> None:
    async with raw_client(await url_of(host)) as other:
        for text in ("nonsense", "{}", '{"type":"registertrigger"}', b"\xff\xfe", "[" * 50_000):
            await other.socket.send(text)
        invocation_id = str(uuid.uuid4())
        answer = asyncio.create_task(other.call("state::get", {}, invocation_id=invocation_id))
        await other.socket.send(
            '{"type":"invokefunction","invocation_id":"%s","function_id":"state::get","data":{,}}'
            % invocation_id
        )
        assert (await answer)["error"]["code"] in ("invalid_message", "deserialization_error")
        assert await other.result("state::list_groups", {}) == {"groups": []}
    assert await client.result("state::list_groups", {}) == {"groups": []}


async def test_a_protocol_violation_ends_only_its_own_connection(host: Host, client: RawClient) -> None:
    port = int((await url_of(host)).rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((UPGRADE % ("/", "localhost", "")).replace("\n", "\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    # A reserved opcode, then a frame that announces more than any message may hold.
    writer.write(b"\x8f\x80\0\0\0\0" + b"\x81\xff" + struct.pack(">Q", MESSAGE_LIMIT + 1) + b"\0\0\0\0")
    await asyncio.wait_for(reader.read(), WAIT_S)
    writer.close()
    assert await client.result("state::list_groups", {}) == {"groups": []}


async def test_a_message_over_the_limit_is_refused_with_its_code(host: Host, client: RawClient) -> None:
    async with raw_client(await url_of(host)) as other:
        pieces = ["x" * (MESSAGE_LIMIT // 2), "y" * (MESSAGE_LIMIT // 2), "z"]
        with contextlib.suppress(websockets.ConnectionClosed):
            await other.socket.send(iter(pieces))
        assert await other.closed() == 1009
    assert await client.result("state::list_groups", {}) == {"groups": []}


@pytest.mark.parametrize("grace_ms", [15_000])
async def test_registrations_without_identification_wait_for_the_grace(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw_client(await url_of(host), hello=False) as worker:
        await worker.register("w::f", lambda data: {"got": data["n"]})
        async with raw_client(await url_of(host)) as caller:
            assert await caller.code("w::f", {"n": 1}) == "function_not_found"
            pass_time(15)
            while (await caller.call("w::f", {"n": 1})).get("error"):
                await asyncio.sleep(0)
            assert await caller.result("w::f", {"n": 2}) == {"got": 2}
    assert caplog.text.count("did not register itself within 15 s") == 1


async def test_the_end_of_the_host_closes_with_the_code_after_which_sdks_reconnect(host: Host) -> None:
    async with raw_client(await url_of(host)) as worker:
        await worker.hello()
        await host.close()
        assert await worker.closed() == 1012


async def test_calls_in_flight_are_answered_before_the_end(host: Host) -> None:
    url = await url_of(host)
    async with raw_client(url) as worker, raw_client(url) as caller:
        await worker.hello()
        await worker.register("w::slow")
        waiting = asyncio.create_task(caller.call("w::slow", {"n": 1}))
        invocation = await worker.wait_for("invokefunction")
        closing = asyncio.create_task(host.close(grace_s=5))
        await asyncio.sleep(0)
        await worker.send(
            {
                "type": "invocationresult",
                "invocation_id": invocation["invocation_id"],
                "function_id": "w::slow",
                "result": 7,
            }
        )
        assert (await waiting)["result"] == 7
        await closing


async def test_a_call_that_never_ends_does_not_hold_the_end_up(host: Host) -> None:
    url = await url_of(host)
    async with raw_client(url) as worker, raw_client(url) as caller:
        await worker.hello()
        await worker.register("w::stuck")
        waiting = asyncio.create_task(caller.call("w::stuck", {}))
        await worker.wait_for("invokefunction")
        await asyncio.wait_for(host.close(grace_s=0.05), WAIT_S)
        waiting.cancel()
        assert await caller.closed() == 1012


async def test_a_reader_that_lags_is_not_fed_without_bound(host: Host, client: RawClient) -> None:
    await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * 1_000_000})
    port = int((await url_of(host)).rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write((UPGRADE % ("/", "localhost", "")).replace("\n", "\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    call = {"type": "invokefunction", "function_id": "state::get", "data": {"scope": "s", "key": "k"}}
    texts = [json.dumps({**call, "invocation_id": str(uuid.uuid4())}).encode() for _ in range(2000)]
    writer.write(masked_text_frames(texts))
    (socket,) = [s for s in host_sockets(host) if s.worker.id != worker_id(client, host)]
    await until(lambda: socket.unread > 0)
    await client.result("state::list_groups", {})
    assert socket.unread < 4_000_000
    assert socket.connection.waiting_bytes < 4_000_000
    writer.close()
    assert await client.result("state::get", {"scope": "s", "key": "none"}) is None


def host_sockets(host: Host) -> list[Any]:
    assert host._servers is not None
    return list(host._servers._workers.sockets)


def worker_id(client: RawClient, host: Host) -> str:
    local = client.socket.local_address[1]
    for socket in host_sockets(host):
        if socket.underlying.get_extra_info("peername")[1] == local:
            return str(socket.worker.id)
    raise AssertionError("the client is not connected")


@pytest.mark.parametrize(
    ("cors", "origin", "admitted"),
    [
        (Cors(), "https://evil.example", False),
        (Cors(allowed_origins=("*",)), "https://evil.example", False),
        (Cors(allowed_origins=("https://shop.example",)), "https://shop.example", True),
        (Cors(allowed_origins=("https://shop.example",)), "https://evil.example", False),
    ],
)
async def test_cors_for_every_page_makes_no_page_a_worker(cors: Cors, origin: str, admitted: bool) -> None:
    host = Host(Config(state=STATE, http=HttpSettings(port=0, cors=cors)))
    await host.open()
    port = (await host.serve(port=0, http_port=0)).ws_url.rsplit(":", 1)[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write((UPGRADE % ("/", "localhost", f"Origin: {origin}\n")).replace("\n", "\r\n").encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    await host.close()
    assert status == (101 if admitted else 403)


class TestListening:
    async def test_port_zero_picks_free_ports(self) -> None:
        hosts = [Host(Config(state=STATE)) for _ in range(2)]
        for host in hosts:
            await host.open()
        servers = [await host.serve(port=0, http_port=0) for host in hosts]
        urls = {s.ws_url for s in servers} | {str(s.http_url) for s in servers}
        assert len(urls) == 4
        for host in hosts:
            await host.close()

    async def test_a_taken_port_is_one_sentence_with_the_way_out(self, host: Host) -> None:
        port = int((await url_of(host)).rsplit(":", 1)[1])
        other = Host(Config(state=STATE))
        await other.open()
        with pytest.raises(PortTaken, match=rf"Port {port} .* --port N"):
            await other.serve(port=port, http_port=0)
        with pytest.raises(PortTaken, match=r"--http-port N"):
            await other.serve(port=0, http_port=port)
        await other.close()

    @pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
    async def test_beyond_loopback_needs_a_token_or_the_dangerous_flag(self, address: str) -> None:
        host = Host(Config(state=STATE))
        await host.open()
        with pytest.raises(ConfigurationError, match="--token"):
            await host.serve(port=0, http_port=0, address=address)
        await host.close()

    @pytest.mark.parametrize("token", ["", "secret ", " secret", "sécret", "a\nb", "x" * 9000])
    async def test_a_token_that_nobody_could_present_is_refused(self, token: str) -> None:
        host = Host(Config(state=STATE))
        await host.open()
        with pytest.raises(ConfigurationError, match="The token "):
            await host.serve(port=0, http_port=0, token=token)
        await host.close()

    async def test_an_address_of_another_machine_is_named(self) -> None:
        host = Host(Config(state=STATE))
        await host.open()
        with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
            await host.serve(port=0, http_port=0, address="192.0.2.1", token="t")
        await host.close()

    async def test_a_token_is_wanted_from_every_worker(self) -> None:
        host = Host(Config(state=STATE))
        await host.open()
        url = (await host.serve(port=0, http_port=0, token="secret")).ws_url
        for bad in (url, f"{url}/?token=wrong", f"{url}/otel"):
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(bad)
            assert caught.value.response.status_code == 401
        async with websockets.connect(url, additional_headers={"Authorization": "Bearer secret"}):
            pass
        async with raw_client(f"{url}/?token=secret") as client:
            assert await client.result("state::list_groups", {}) == {"groups": []}
        await host.close()


def test_frames_carry_every_length() -> None:
    for size in (0, 1, 125, 126, 65_535, 65_536, FRAGMENT, FRAGMENT + 1, 2 * FRAGMENT + 5):
        text = b"x" * size
        frames = text_frames([text])
        lengths = []
        position = 0
        while position < len(frames):
            length, head = frames[position + 1], 2
            if length == 126:
                length, head = int.from_bytes(frames[position + 2 : position + 4], "big"), 4
            elif length == 127:
                length, head = int.from_bytes(frames[position + 2 : position + 10], "big"), 10
            lengths.append((frames[position], length))
            position += head + length
        assert sum(length for _, length in lengths) == size
        assert lengths[0][0] & 0x0F == 1
        assert all(first & 0x0F == 0 for first, _ in lengths[1:])
        assert [first >> 7 for first, _ in lengths] == [0] * (len(lengths) - 1) + [1]


def test_client_frames_are_masked_with_fresh_keys(tmp_path: Path) -> None:
    text = bytes(range(32, 127)) * 3
    frame = masked_text_frames([text])
    key, body = frame[4:8], frame[8:]
    assert bytes(byte ^ key[i % 4] for i, byte in enumerate(body)) == text
    assert masked_text_frames([text])[4:8] != key


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1023, 1024, 1025, 65535, 65536, 65537])
def test_the_start_of_a_frame_says_its_size_in_the_shortest_form(size: int) -> None:
    frame = text_frames((b"x" * size,))
    assert frame[0] == 0x81
    short = frame[1]
    extended = {126: 2, 127: 8}.get(short, 0)
    said = int.from_bytes(frame[2 : 2 + extended], "big") if extended else short
    assert (said, len(frame) - 2 - extended) == (size, size)
    assert extended == (0 if size < 126 else 2 if size < 65536 else 8)
