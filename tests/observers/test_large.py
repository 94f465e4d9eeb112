"""Observed calls of megabytes over real sockets, and many of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.client import RawClient, raw_client

from iii_skill import open_host

IDENTITY = {"name": "w", "features": ["observe.v1", "observe.v2"]}
TEXT = "x" * 3_000_000


class Pair:
    """A host of `h::f` and a worker that observes it with `t::g`; both over sockets."""

    def __init__(self, source: RawClient, target: RawClient) -> None:
        self.source = source
        self.target = target
        self.got: asyncio.Queue[Any] = asyncio.Queue()

    async def observe(self, **fields: Any) -> None:
        source = {"function_id": "h::f", **fields}
        await self.target.send(
            {"type": "observe", "id": "o", "source": source, "target": {"function_id": "t::g"}}
        )
        told = await self.source.wait_for("observeradded")
        ack = {"type": "observerack", "function_id": "h::f", "id": "o", "revision": told["revision"]}
        await self.source.send(ack)
        await self.target.wait_for("observerstatechanged", state="active")

    async def next(self) -> Any:
        return await asyncio.wait_for(self.got.get(), 20)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with open_host(adapter="memory") as host:
        servers = await host.serve(port=0, http_port=0)
        async with raw_client(servers.ws_url) as source, raw_client(servers.ws_url) as target:
            made = Pair(source, target)
            for client in (source, target):
                await client.call("engine::workers::register", IDENTITY)
            await source.register("h::f", lambda payload: payload["text"])
            await target.register("t::g", made.got.put_nowait)
            await source.wait_for("functionregistered", id="h::f")
            yield made


@pytest.mark.parametrize("deliver", ["envelope", "input", "output"])
async def test_a_call_of_megabytes_is_observed_whole(pair: Pair, deliver: str) -> None:
    await pair.observe(deliver=deliver, filters={"input.text": {"$prefix": "xx"}})
    assert await pair.target.result("h::f", {"text": TEXT}) == TEXT
    got = await pair.next()
    if deliver == "envelope":
        assert (got["input"], got["output"]) == ({"text": TEXT}, TEXT)
    else:
        assert got == ({"text": TEXT} if deliver == "input" else TEXT)


async def test_a_report_of_megabytes_is_taken(pair: Pair) -> None:
    await pair.observe()
    item = {
        "function_id": "h::f",
        "invocation_id": "i",
        "matched": ["o"],
        "status": "success",
        "input": {"text": TEXT},
        "output_is_input": True,
        "started_at_ms": 1,
        "duration_ms": 1,
    }
    await pair.source.send({"type": "invocationsobserved", "items": [item, item]})
    for _ in range(2):
        got = await pair.next()
        assert got["output"] == {"text": TEXT}


async def test_many_calls_are_each_observed_once(pair: Pair) -> None:
    await pair.observe(deliver="output")
    calls = [pair.target.result("h::f", {"text": str(number)}) for number in range(1000)]
    await asyncio.gather(*calls)
    got = sorted([int(await pair.next()) for _ in range(1000)])
    assert got == list(range(1000))
