"""Schedules: what a handler gets, one run at a time, and one host of many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import pytest
from support import redis
from support.jobs import early_in_a_minute, until, waiting

from iii_skill import Host, open_host
from iii_skill.config import CompanionSection, Config, StateConfig
from iii_skill.errors import TriggerRefused

MINUTELY = {"expression": "0 * * * * *"}


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with open_host() as host:
        await early_in_a_minute(host)
        yield host


class Handler:
    """A function that keeps its events and may be held back."""

    def __init__(self, host: Host, function_id: str = "tick", *, held: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.free = asyncio.Event()
        if not held:
            self.free.set()
        host.register_function(function_id, self._run)

    async def _run(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        await self.free.wait()

    async def called(self, times: int) -> None:
        """Wait until it was called that often."""
        await until(lambda: len(self.events) >= times)
        assert len(self.events) == times


async def turns(count: int = 20) -> None:
    """Let everything that is due now run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_event_names_the_job_and_both_times(host: Host) -> None:
    handler = Handler(host)
    job = host.register_trigger("cron", "tick", MINUTELY, metadata={"m": 1})
    host.clock.advance(60)
    await handler.called(1)
    event = handler.events[0]
    scheduled, actual = (datetime.fromisoformat(event[name]) for name in ("scheduled_time", "actual_time"))
    assert (event["trigger"], event["job_id"]) == ("cron", job)
    assert scheduled.second == 0
    assert scheduled.utcoffset() is not None
    assert actual >= scheduled


async def test_it_fires_again_and_again_by_the_real_clock(host: Host) -> None:
    handler = Handler(host)
    host.register_trigger("cron", "tick", {"expression": "* * * * * *"})
    await until(lambda: len(handler.events) >= 2)
    for event in handler.events:
        scheduled, actual = (
            datetime.fromisoformat(event[name]) for name in ("scheduled_time", "actual_time")
        )
        assert scheduled.microsecond == 0
        assert actual >= scheduled
    first, second = (datetime.fromisoformat(event["scheduled_time"]) for event in handler.events[:2])
    assert second > first


async def test_a_handler_that_runs_skips_the_moments_in_between(host: Host) -> None:
    handler = Handler(host, held=True)
    host.register_trigger("cron", "tick", MINUTELY)
    host.clock.advance(60)
    await handler.called(1)
    host.clock.advance(180)
    await waiting(host, 0)
    assert len(handler.events) == 1
    handler.free.set()
    await waiting(host, 1)
    host.clock.advance(60)
    await handler.called(2)


async def test_a_handler_that_never_answers_does_not_end_its_schedule() -> None:
    cron = CompanionSection(name="iii-cron", config={"handler_timeout_s": 0.01})
    config = Config(state=StateConfig(adapter_name="memory"), companions=(cron,))
    async with open_host(config=config) as host:
        await early_in_a_minute(host)
        handler = Handler(host, held=True)
        host.register_trigger("cron", "tick", MINUTELY)
        host.clock.advance(60)
        await handler.called(1)
        await waiting(host, 1)
        host.clock.advance(60)
        await handler.called(2)
        handler.free.set()


async def test_a_slow_job_holds_back_no_other(host: Host) -> None:
    slow, quick = Handler(host, "slow", held=True), Handler(host, "quick")
    host.register_trigger("cron", "slow", MINUTELY)
    host.register_trigger("cron", "quick", MINUTELY)
    for times in (1, 2):
        host.clock.advance(60)
        await quick.called(times)
        await waiting(host, 1)
    assert len(slow.events) == 1
    slow.free.set()


@pytest.mark.parametrize(("verdict", "calls"), [(False, 0), (None, 1), (0, 1), ({}, 1), ("boom", 0)])
async def test_only_false_and_errors_of_a_condition_skip(host: Host, verdict: Any, calls: int) -> None:
    asked: list[Any] = []

    def condition(event: Any) -> Any:
        asked.append(event)
        if verdict == "boom":
            raise ValueError("boom")
        return verdict

    handler = Handler(host)
    host.register_function("may", condition)
    host.register_trigger("cron", "tick", {**MINUTELY, "condition_function_id": "may"})
    for times in (1, 2):
        host.clock.advance(60)
        await waiting(host, 1)
        assert len(asked) == times
    assert len(handler.events) == 2 * calls


async def test_a_failing_handler_is_logged_and_fires_again(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.register_trigger("cron", "missing", MINUTELY)
    for _ in range(2):
        host.clock.advance(60)
        await waiting(host, 1)
    assert caplog.text.count("missing, scheduled by '0 * * * * *', failed: function_not_found") == 2


async def test_an_ended_trigger_fires_no_more_and_leaves_no_timer(host: Host) -> None:
    handler = Handler(host)
    job = host.register_trigger("cron", "tick", MINUTELY)
    assert host.clock.pending == 1
    assert host.unregister_trigger(job)
    assert host.clock.pending == 0
    host.clock.advance(3600)
    await turns()
    assert handler.events == []


async def test_an_expression_that_never_fires_is_accepted_and_waits_for_nothing(host: Host) -> None:
    host.register_trigger("cron", "tick", {"expression": "0 0 0 30 2 *"})
    assert host.clock.pending == 0


@pytest.mark.parametrize("config", [None, {}, {"expression": 5}, {"expression": ""}, {"cron": "@daily"}, []])
async def test_a_trigger_without_an_expression_is_refused(host: Host, config: Any) -> None:
    with pytest.raises(TriggerRefused, match="Cron expression is required"):
        host.register_trigger("cron", "tick", config)


async def test_closing_lets_a_handler_end_and_starts_none() -> None:
    async with open_host() as host:
        await early_in_a_minute(host)
        handler = Handler(host, held=True)
        host.register_trigger("cron", "tick", MINUTELY)
        host.clock.advance(60)
        await handler.called(1)
        closing = asyncio.ensure_future(host.close(grace_s=5))
        await turns()
        assert not closing.done()
        handler.free.set()
        await closing
    assert len(handler.events) == 1


async def test_one_of_the_hosts_that_share_a_store_fires_each_moment() -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(3)
        ]
        handlers = [Handler(host) for host in hosts]
        await early_in_a_minute(*hosts)
        for host in hosts:
            # Two jobs of one function and time on each host: each of the two fires once.
            for _ in range(2):
                host.register_trigger("cron", "tick", MINUTELY)
        for round_ in (1, 2):
            for host in hosts:
                host.clock.advance(60)
            for host in hosts:
                await waiting(host, 2)
            events = [event for handler in handlers for event in handler.events]
            assert len(events) == 2 * round_
        assert len({event["scheduled_time"] for event in events}) == 2
