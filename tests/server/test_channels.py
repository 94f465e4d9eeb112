"""Channels over real sockets on the worker port."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from support.site import Site, open_site, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from iii_skill.calls import Call


def created(site: Site, **options: Any) -> tuple[dict[str, str], dict[str, str]]:
    outcomes: list[Any] = []
    site.engine.invoke(Call("engine::channels::create", json.dumps(options).encode(), outcomes.append))
    refs = json.loads(outcomes[0].value)
    return refs["writer"], refs["reader"]


async def received(socket: ClientConnection) -> list[str | bytes]:
    """Everything until the close."""
    async with asyncio.timeout(20):
        return [message async for message in socket]


@pytest.fixture
async def site() -> Any:
    async with open_site() as opened:
        opened.engine.add_function("engine::channels::create", opened.engine.channels.handle_create)
        yield opened


async def test_messages_pass_one_to_one_in_order(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(writer)) as w, connect(site.channel_url(reader)) as r:
        sent: list[str | bytes] = ["a", b"b", "", b"", "ü", bytes(64 * 1024), "x" * 100_000]
        for message in sent:
            await w.send(message)
        await w.close()
        assert await received(r) == sent
        assert (r.close_code, r.close_reason) == (1005, "")
    assert len(site.engine.channels) == 0


async def test_the_writer_may_start_and_finish_before_the_reader_comes(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(writer)) as w:
        await w.send("early")
    async with connect(site.channel_url(reader)) as r:
        assert await received(r) == ["early"]


async def test_a_writer_that_drops_ends_the_channel_with_an_error_after_what_it_sent(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(reader)) as r:
        w = await connect(site.channel_url(writer))
        await w.send("last")
        assert await r.recv() == "last"
        w.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await r.recv()
        assert r.close_code == 1011
        assert r.close_reason == "channel writer aborted: connection lost before close"


async def test_what_a_lost_writer_sent_is_read_by_one_who_comes_later(site: Site) -> None:
    writer, reader = created(site)
    w = await connect(site.channel_url(writer))
    for number in range(3):
        await w.send(str(number))
    await (await w.ping())
    w.transport.abort()
    async with connect(site.channel_url(reader)) as r:
        assert [await r.recv() for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ConnectionClosedError):
            await r.recv()
        assert r.close_code == 1011


async def test_a_fragmented_message_arrives_whole(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(writer)) as w, connect(site.channel_url(reader)) as r:
        await w.send([b"a", b"b", b"c"])
        await w.send(["ü", "x"])
        assert await r.recv() == b"abc"
        assert await r.recv() == "üx"


@pytest.mark.parametrize("end", ["read", "write"])
async def test_a_second_opener_of_an_end_is_closed_empty(site: Site, end: str) -> None:
    writer, _ = created(site)
    async with connect(site.channel_url(writer, end)), connect(site.channel_url(writer, end)) as second:
        assert await received(second) == []
        assert (second.close_code, second.close_reason) == (1005, "")


async def test_the_key_grants_both_directions(site: Site) -> None:
    writer, _ = created(site)
    async with (
        connect(site.channel_url(writer, "read")) as r,
        connect(site.channel_url(writer, "write")) as w,
    ):
        await w.send("x")
        assert await r.recv() == "x"


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"channel_id": "nope"}, 404, "Channel not found"),
        ({"access_key": "nope"}, 404, "Channel not found"),
        ({"access_key": ""}, 404, "Channel not found"),
        ({"direction": "both"}, 400, "dir must be read or write"),
    ],
)
async def test_a_wrong_address_is_refused(site: Site, change: dict[str, str], status: int, text: str) -> None:
    writer, _ = created(site)
    ref = writer | change
    with pytest.raises(InvalidStatus) as refused:
        await connect(site.channel_url(ref, ref["direction"]))
    assert refused.value.response.status_code == status
    assert refused.value.response.body == text.encode()


async def test_the_messages_of_a_reader_are_ignored(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(reader)) as r, connect(site.channel_url(writer)) as w:
        await r.send("hello?")
        await w.send("x")
        assert await r.recv() == "x"


async def test_a_waiting_reader_is_answered_its_pings(site: Site) -> None:
    _, reader = created(site)
    async with connect(site.channel_url(reader)) as r, asyncio.timeout(20):
        await (await r.ping())


async def test_when_the_reader_leaves_the_writer_drops_at_its_next_message(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(writer)) as w:
        async with connect(site.channel_url(reader)) as r:
            await w.send("x")
            assert await r.recv() == "x"
        await until(lambda: len(site.engine.channels) == 0)
        await (await w.ping())
        await w.send("nobody reads this")
        with pytest.raises(ConnectionClosed):
            await w.recv()
        assert w.close_code == 1006


async def test_a_slow_reader_holds_the_writer_back(site: Site) -> None:
    writer, reader = created(site, buffer_size=4)
    message = bytes(64 * 1024)
    count = 640

    async def send() -> None:
        async with connect(site.channel_url(writer)) as w:
            for _ in range(count):
                await w.send(message)

    sending = asyncio.create_task(send())
    channel = site.engine.channels.find(writer["channel_id"], writer["access_key"])
    assert channel is not None
    await until(lambda: channel.full)
    total = peak = 0
    async with connect(site.channel_url(reader), max_queue=1) as r:
        async for part in r:
            total += len(part)
            peak = max(peak, channel.bytes_queued)
    await sending
    assert total == count * len(message)
    # Frames that were read together are queued together, so the bound is that of one read buffer.
    assert peak <= 16 << 20


async def test_a_message_over_16_mib_ends_the_writer(site: Site) -> None:
    writer, reader = created(site)
    async with connect(site.channel_url(writer)) as w, connect(site.channel_url(reader)) as r:
        # It may be closed before it has sent all.
        with contextlib.suppress(ConnectionClosed):
            await w.send([bytes(1 << 20) for _ in range(17)])
        with pytest.raises(ConnectionClosed):
            await w.recv()
        assert w.close_code == 1009
        with pytest.raises(ConnectionClosedError):
            await r.recv()
        assert r.close_code == 1011


async def test_an_end_that_nobody_joins_is_closed(site: Site) -> None:
    site.engine.channels.lifetime = 0.05
    writer, reader = created(site)
    async with connect(site.channel_url(reader)) as r:
        assert await asyncio.wait_for(r.wait_closed(), 20) is None
    with pytest.raises(InvalidStatus):
        await connect(site.channel_url(writer))


async def test_every_upgrade_says_that_nothing_delays_small_messages(site: Site) -> None:
    writer, _ = created(site)
    port = f"ws://127.0.0.1:{site.workers.port}"
    for url in (f"{port}/", f"{port}/otel", site.channel_url(writer)):
        async with connect(url) as socket:
            assert socket.response is not None
            assert socket.response.headers["x-iii-capabilities"] == "tcp-nodelay"
