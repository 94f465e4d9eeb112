"""Several hosts on one store: they share the jobs, and one takes over what another one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from support import redis
from support.jobs import Handler, drained, enqueue, publish, stand_still, until

from iii_skill import Host, open_host


@pytest.fixture
async def hosts() -> AsyncIterator[list[Host]]:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(3)
        ]


async def test_each_job_runs_on_one_of_the_hosts(hosts: list[Host]) -> None:
    handlers = [Handler(host) for host in hosts]
    await asyncio.gather(*(enqueue(hosts[number % 3], number) for number in range(300)))
    for host in hosts:
        await drained(host)
    ran = [job for handler in handlers for job in handler.got]
    assert sorted(ran) == list(range(300))


async def test_a_job_runs_where_its_function_is(hosts: list[Host]) -> None:
    handler = Handler(hosts[2])
    for number in range(5):
        await enqueue(hosts[0], number)
    assert await handler.has(5) == list(range(5))
    await drained(hosts[0])


async def test_a_message_reaches_the_subscribers_of_every_host_once(hosts: list[Host]) -> None:
    one, two, again = Handler(hosts[0], "one"), Handler(hosts[1], "two"), Handler(hosts[2], "one")
    for host, function_id in zip(hosts, ("one", "two", "one"), strict=True):
        host.register_trigger("durable:subscriber", function_id, {"topic": "t"})
    queues = [host.companions.running["iii-queue"] for host in hosts]
    await until(lambda: all(len(queue._subscribers.of("t")) == 2 for queue in queues))
    for number in range(20):
        await publish(hosts[number % 3], number)
    for host in hosts:
        await drained(host, "t")
    assert sorted(two.got) == list(range(20))
    assert sorted([*one.got, *again.got]) == list(range(20))


async def test_what_a_lost_host_had_begun_another_one_takes_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_still(monkeypatch)
    settings = redis.settings()
    async with open_host(adapter="redis", adapter_config=settings) as other:
        async with AsyncExitStack() as stack:
            lost = await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            stuck = Handler(lost, held=True)
            await enqueue(lost, 1)
            await stuck.has(1)
            handler = Handler(other)
            # It prolongs its claim while it lives; a host that is gone does not.
            other.clock.advance(29)
            await asyncio.sleep(0.05)
            assert handler.got == []
            other.clock.advance(2)
            assert await handler.has(1) == [1]
            await drained(other)
            stuck.free.set()
        assert handler.got == [1]


async def test_a_definition_counts_on_every_host(hosts: list[Host]) -> None:
    await hosts[0].trigger("queue::define", {"queue": "q", "config": {"max_retries": 1}})
    handler = Handler(hosts[1], fails=9)
    queue = hosts[1].companions.running["iii-queue"]
    await until(lambda: "q" in queue._queues.named)
    await enqueue(hosts[1], 1)
    await drained(hosts[1], dead=1)
    await drained(hosts[2], dead=1)
    assert handler.got == [1]
    assert (await hosts[2].trigger("iii::queue::redrive", {"queue": "q"}))["redriven"] == 1
