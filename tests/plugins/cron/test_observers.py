"""`cron::on-tick`: an observer is a job, and its expression is one of its args."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import pytest
from support import redis
from support.jobs import Handler, early_in_a_minute, until, waiting

from iii_skill import Host, InvocationError, open_host
from iii_skill.errors import CallerError

ON_TICK = "cron::on-tick"
MINUTELY = {"expression": "0 * * * * *"}


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with open_host() as host:
        await early_in_a_minute(host)
        yield host


async def test_input_and_output_are_the_tick(host: Host) -> None:
    handler = Handler(host)
    observer = await host.observe(ON_TICK, "work", args=MINUTELY)
    assert (observer.state, observer.warnings) == ("active", [])
    host.clock.advance(60)
    (told,) = await handler.has(1)
    tick = told["input"]
    assert told["output"] == tick
    assert tick.keys() == {"expression", "scheduled_time", "actual_time"}
    assert tick["expression"] == MINUTELY["expression"]
    scheduled, actual = (datetime.fromisoformat(tick[name]) for name in ("scheduled_time", "actual_time"))
    assert scheduled.second == 0
    assert scheduled.utcoffset() is not None
    assert actual >= scheduled
    assert (told["function_id"], told["caller"]) == (ON_TICK, {"worker_name": "iii-cron"})


async def test_each_observer_hears_its_own_expression_and_filter_and_a_trigger_stays_beside_it(
    host: Host,
) -> None:
    minutely, hourly, filtered = (Handler(host, name) for name in ("minutely", "hourly", "filtered"))
    old = Handler(host, "old")
    await host.observe(ON_TICK, "minutely", args=MINUTELY, deliver="input")
    await host.observe(ON_TICK, "hourly", args={"expression": "@hourly"}, deliver="input")
    never = {"input.scheduled_time": {"$prefix": "1999"}}
    await host.observe(ON_TICK, "filtered", args=MINUTELY, deliver="input", filters=never)
    host.register_trigger("cron", "old", MINUTELY)
    for times in range(1, 61):
        host.clock.advance(60)
        await minutely.has(times)
        await old.has(times)
        await waiting(host, 4)
    (tick,) = await hourly.has(1)
    assert tick["expression"] == "@hourly"
    assert [told["scheduled_time"] for told in minutely.got] == [told["scheduled_time"] for told in old.got]
    assert filtered.got == []


async def test_a_target_that_runs_does_not_hold_back_ticks_unless_its_bound_does(host: Host) -> None:
    free, bound = Handler(host, "free", held=True), Handler(host, "bound", held=True)
    await host.observe(ON_TICK, "free", args=MINUTELY)
    await host.observe(ON_TICK, "bound", args=MINUTELY, max_in_flight=1)
    for times in (1, 2, 3):
        host.clock.advance(60)
        await free.has(times)
        await waiting(host, 2)
    await bound.has(1)
    free.free.set()
    bound.free.set()
    await bound.has(3)
    assert (free.most, bound.most) == (3, 1)


async def test_an_observer_that_ended_leaves_no_timer(host: Host) -> None:
    handler = Handler(host)
    observer = await host.observe(ON_TICK, "work", args=MINUTELY)
    limited = await host.observe(ON_TICK, "work", args=MINUTELY, max_fires=1)
    assert host.clock.pending == 2
    assert observer.unobserve()
    assert host.clock.pending == 1
    host.clock.advance(60)
    await handler.has(1)
    assert (limited.state, limited.fires) == ("disposed", 1)
    await until(lambda: not host.clock.pending)


async def test_no_timer_runs_while_the_target_is_away(host: Host) -> None:
    observer = await host.observe(ON_TICK, "work", args=MINUTELY)
    assert (observer.state, host.clock.pending) == ("pending", 0)
    handler = Handler(host)
    assert (observer.state, host.clock.pending) == ("active", 1)
    host.clock.advance(60)
    await handler.has(1)


@pytest.mark.parametrize("expression", ["", "* * * * *", "0 0 0 32 1 *", "soon", "* " * 600])
async def test_a_bad_expression_is_refused_with_the_words_of_a_trigger(host: Host, expression: str) -> None:
    with pytest.raises(CallerError) as refused:
        await host.observe(ON_TICK, "work", args={"expression": expression})
    assert refused.value.code == "INVALID_CRON_EXPRESSION"
    assert "xpression" in refused.value.message
    assert host.clock.pending == 0


@pytest.mark.parametrize("args", [None, {}, {"expression": 5}, {"cron": "@daily"}])
async def test_args_without_an_expression_are_refused(host: Host, args: Any) -> None:
    with pytest.raises(CallerError) as refused:
        await host.observe(ON_TICK, "work", args=args)
    assert refused.value.code == "INVALID_ARGS"
    assert "expression" in refused.value.message


async def test_nobody_calls_it(host: Host) -> None:
    with pytest.raises(InvocationError) as refused:
        await host.trigger(ON_TICK, MINUTELY)
    assert refused.value.code == "FORBIDDEN"


async def test_one_of_the_hosts_that_share_a_store_tells_each_moment() -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(3)
        ]
        handlers = [Handler(host) for host in hosts]
        await early_in_a_minute(*hosts)
        for host in hosts:
            await host.observe(ON_TICK, "work", args=MINUTELY, deliver="input")
        for round_ in (1, 2):
            for host in hosts:
                host.clock.advance(60)
            for host in hosts:
                await waiting(host, 1)
            await until(lambda count=round_: sum(len(handler.got) for handler in handlers) >= count)
            assert sum(len(handler.got) for handler in handlers) == round_
