"""Memory of the worker port: what is kept for workers that do not read, or do not finish, is bounded."""

from __future__ import annotations

import asyncio
import gc
import json
import struct
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from support.client import raw_client
from support.peers import pass_time
from support.site import until

from iii_skill.calls import Call
from iii_skill.config import Config, HttpSettings, StateConfig, WorkerListener
from iii_skill.host import Host
from iii_skill.server.frames import masked_text_frames
from iii_skill.server.inflow import Inflow

MB = 1024 * 1024


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host(
        Config(
            state=StateConfig(adapter_name="memory"),
            worker=WorkerListener(port=0, grace_ms=50),
            http=HttpSettings(port=0),
        )
    )
    await host.open()
    await host.serve()
    yield host
    await host.close()


async def url_of(host: Host) -> str:
    return (await host.serve()).ws_url


async def stream(host: Host, target: str = "/") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A worker's connection as bytes; only as much is read as a test reads."""
    port = int((await url_of(host)).rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    head = (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def sockets(host: Host) -> list[Any]:
    assert host._servers is not None
    return list(host._servers._workers.sockets)


def call(function_id: str, data: Any) -> bytes:
    message = {"type": "invokefunction", "invocation_id": str(uuid.uuid4()), "function_id": function_id}
    return json.dumps({**message, "data": data}).encode()


async def test_a_caller_that_does_not_read_gets_no_more_work_done(host: Host) -> None:
    async with raw_client(await url_of(host)) as other:
        await other.result("state::set", {"scope": "s", "key": "k", "value": "x" * (10 * MB)})
        reader, writer = await stream(host)
        made = 0

        def counted(one: Call) -> None:
            nonlocal made
            made += 1
            one.succeed(b'"%b"' % (b"x" * (10 * MB)))

        host.engine.add_function("t::large", counted)
        writer.write(masked_text_frames([call("t::large", {}) for _ in range(500)]))
        await until(lambda: any(one.unread for one in sockets(host)))
        (socket,) = [one for one in sockets(host) if one.unread]
        await other.result("state::list_groups", {})
        await other.result("state::list_groups", {})
        assert made <= 3
        assert socket.unread <= 30 * MB
        # Whoever reads gets them all.
        async with asyncio.timeout(120):
            while made < 20:
                assert await reader.read(MB)
        writer.close()


async def test_a_reader_of_many_large_answers_gets_them_all(host: Host) -> None:
    async with raw_client(await url_of(host)) as client:
        await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * MB})
        asked = [client.result("state::get", {"scope": "s", "key": "k"}) for _ in range(100)]
        assert {len(value) for value in await asyncio.gather(*asked)} == {MB}


async def test_unfinished_long_messages_take_turns_and_stalled_ones_give_way() -> None:
    class Connection:
        fed = False
        kept = 0
        stalled_by_peer = True
        peer = "a worker"

        def __init__(self) -> None:
            self.held = False
            self.gone = False

        def hold(self, reason: str) -> None:
            self.held = True

        def release(self, reason: str) -> None:
            self.held = False

        def give_way(self, reason: str) -> None:
            self.gone = True

    inflow = Inflow(turns=2, long=100, stall_s=10)
    first, second, third, fourth = (Connection() for _ in range(4))
    for one in (first, second, third, fourth):
        inflow.keeps(one, 1000)
    assert [one.held for one in (first, second, third, fourth)] == [False, False, True, True]
    inflow.keeps(first, 0)
    assert [one.held for one in (third, fourth)] == [False, True]
    pass_time(6)
    inflow.keeps(third, 2000)
    pass_time(6)
    await until(lambda: second.gone)
    assert not fourth.held
    assert not third.gone
    for one in (third, fourth):
        inflow.forget(one)


async def test_many_unfinished_messages_hold_few_bytes(host: Host) -> None:
    head = b"\x81\xff" + struct.pack(">Q", 60 * MB) + b"\0\0\0\0"
    writers = []
    for _ in range(12):
        _, writer = await stream(host)
        writer.write(head + b"x" * (2 * MB))
        writers.append(writer)
    await until(lambda: sum(bool(socket._held) for socket in sockets(host)) >= 12 - 4)
    async with raw_client(await url_of(host)) as client:
        for _ in range(50):
            await client.result("state::list_groups", {})
        assert sum(bool(socket._held) for socket in sockets(host)) >= 12 - 4
    for writer in writers:
        writer.close()


async def test_a_long_message_is_taken_while_others_hang(host: Host) -> None:
    head = b"\x81\xff" + struct.pack(">Q", 60 * MB) + b"\0\0\0\0"
    writers = []
    for _ in range(3):
        _, writer = await stream(host)
        writer.write(head + b"x" * MB)
        writers.append(writer)
    async with raw_client(await url_of(host)) as client:
        value = [[n] for n in range(300_000)]
        await client.result("state::set", {"scope": "s", "key": "k", "value": value})
        assert await client.result("state::get", {"scope": "s", "key": "k"}) == value
        await client.result(
            "state::update",
            {"scope": "s", "key": "k", "ops": [{"type": "set", "path": "", "value": {"a": value}}]},
        )
        swap = {"scope": "s", "key": "k", "expected": {"a": value}, "value": value[:1]}
        assert await client.result("state::compare-and-set", swap) == {"swapped": True}
    for writer in writers:
        writer.close()


async def test_calls_and_connections_need_no_collector(host: Host) -> None:
    url = await url_of(host)

    async def use() -> None:
        async with raw_client(url) as worker, raw_client(url) as caller:
            await worker.hello()
            await worker.register("w::f")
            waiting = asyncio.create_task(caller.call("w::f", {"a": 1}))
            invocation = await worker.wait_for("invokefunction")
            await worker.send(
                {"type": "invocationresult", "invocation_id": invocation["invocation_id"], "result": 1}
            )
            await waiting
            await caller.result("state::set", {"scope": "s", "key": "k", "value": 1})
            await worker.send(
                {
                    "type": "registertrigger",
                    "id": "t",
                    "trigger_type": "state",
                    "function_id": "w::f",
                    "config": {},
                }
            )
            references = await caller.result("engine::channels::create", {})
            targets = [
                f"{url}/ws/channels/{one['channel_id']}?key={one['access_key']}&dir={one['direction']}"
                for one in references.values()
            ]
            async with websockets.connect(targets[0]) as first, websockets.connect(targets[1]) as second:
                writer, reader = (first, second) if "dir=write" in targets[0] else (second, first)
                await writer.send(b"x")
                assert await reader.recv() == b"x"

    def living() -> dict[str, int]:
        names = (
            *("WorkerSocket", "Connection", "Worker", "Call", "Stream", "Trigger", "Function"),
            *("Channel", "ReaderSocket", "WriterSocket"),
        )
        counts = dict.fromkeys(names, 0)
        for one in gc.get_objects():
            name, module = type(one).__name__, type(one).__module__
            if name in counts and module.startswith("iii_skill."):
                counts[name] += 1
        return counts

    await use()

    def nobody_is_connected() -> bool:
        return not sockets(host) and not living()["ReaderSocket"] and not living()["WriterSocket"]

    await until(nobody_is_connected)
    gc.collect()
    gc.disable()
    try:
        before = living()
        for _ in range(5):
            await use()
        await until(lambda: living() == before)
    finally:
        gc.enable()
    assert sys.getrefcount(host) > 0


async def test_functions_that_wait_for_their_callers_are_not_held_back(host: Host) -> None:
    async with raw_client(await url_of(host)) as worker:
        await worker.hello()
        await worker.register("w::inner", lambda data: data)

        async def outer(data: Any) -> Any:
            return await host.trigger("w::inner", data)

        host.register_function("t::outer", outer)
        answers = await asyncio.gather(*(worker.result("t::outer", {"n": n}) for n in range(100)))
        assert [answer["n"] for answer in answers] == list(range(100))
