"""A store that has not told yet what it holds: the host is ready, and no job starts before its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from iii_state_memory import MemoryAdapter
from support.jobs import Handler, drained, enqueue, stats

from iii_skill import Host, InvocationError, open_host
from iii_skill.adapter import NoConfig
from iii_skill.errors import AdapterUnavailable
from iii_skill.plugins import AdapterEntry, PluginSource, load_plugins
from iii_skill.values import PRIVATE_SCOPES

EARLIER = b'{"id":"earlier","function_id":"work","data":"earlier"}'


class GatedAdapter(MemoryAdapter):
    """Holds a job of an earlier life; tells of it when its gate is open."""

    name: ClassVar[str] = "gated"
    gate: ClassVar[asyncio.Event]
    refusing: ClassVar[bool] = False

    async def open(self, config: NoConfig) -> None:
        await super().open(config)
        self.set(f'{PRIVATE_SCOPES}iii-queue/["queue","q"]', "0000000000000001-earlier", EARLIER)

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:  # type: ignore[override]
        if self.refusing:
            raise AdapterUnavailable("The store is away.")
        await self.gate.wait()
        return super().list(scope)


@asynccontextmanager
async def gated_host(*, refusing: bool = False) -> AsyncIterator[tuple[Host, type[GatedAdapter]]]:
    kind = type("GatedAdapter", (GatedAdapter,), {"gate": asyncio.Event(), "refusing": refusing})
    plugins = load_plugins()
    plugins.adapters["gated"] = AdapterEntry(kind, PluginSource("gated", "tests", "0"))
    async with open_host(adapter="gated", plugins=plugins) as host:
        yield host, kind


async def test_no_job_starts_before_those_that_the_store_holds(caplog: pytest.LogCaptureFixture) -> None:
    async with gated_host() as (host, adapter):
        assert "has not told yet which jobs it holds" in caplog.text
        handler = Handler(host)
        later = asyncio.ensure_future(enqueue(host, "later"))
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        assert not later.done()
        assert handler.got == []
        adapter.gate.set()
        await later
        assert await handler.has(2) == ["earlier", "later"]
        await drained(host)


async def test_a_subscription_that_came_before_gets_its_messages() -> None:
    async with gated_host() as (host, adapter):
        handler = Handler(host)
        trigger = host.register_trigger("durable:subscriber", "work", {"topic": "t"})
        message = asyncio.ensure_future(host.trigger("iii::durable::publish", {"topic": "t", "data": "news"}))
        adapter.gate.set()
        await message
        assert sorted(await handler.has(2)) == ["earlier", "news"]
        assert host.unregister_trigger(trigger)


async def test_while_the_store_refuses_calls_are_refused_with_its_reason() -> None:
    async with gated_host(refusing=True) as (host, adapter):
        with pytest.raises(InvocationError, match="The store is away") as refused:
            await enqueue(host, "lost")
        assert refused.value.code == "enqueue_error"
        adapter.refusing = False
        adapter.gate.set()
        handler = Handler(host)
        assert await handler.has(1) == ["earlier"]
        await stats(host)  # answered, so all is taken up
        await enqueue(host, "later")
        assert await handler.has(2) == ["earlier", "later"]


async def test_a_host_that_closes_meanwhile_refuses_what_waits() -> None:
    async with gated_host() as (host, _adapter):
        waiting: Any = asyncio.ensure_future(enqueue(host, "never"))
        await host.trigger("state::get", {"scope": "s", "key": "k"})
        await host.close(grace_s=0.05)
        with pytest.raises(InvocationError, match="The host stops"):
            await waiting
        assert host.left == ["what iii-queue has asked the store for"]
