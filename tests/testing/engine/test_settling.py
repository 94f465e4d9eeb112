"""Settling: what a store tells late is waited for exactly, and so is what the clock makes due."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from iii_state_memory import MemoryAdapter
from support.hub_adapter import HubAdapter
from support.postgres import shared as postgres
from support.redis import shared as redis

from iii_skill.adapter import StateAdapter
from iii_skill.config import Config, StateConfig
from iii_skill.plugins import AdapterEntry, Plugins, PluginSource, load_plugins
from iii_skill.testing import unique
from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.untold import Untold
from iii_skill.values import Change, ChangeFunction

LAG = 0.3
HELD_BACK = threading.Event()


class LateHub(HubAdapter):
    """Its stream tells of every change a while after the answer, and of none while they are held back."""

    async def changes(self) -> AsyncIterator[Change]:
        async for change in super().changes():
            await asyncio.sleep(LAG)
            while HELD_BACK.is_set():
                await asyncio.sleep(0.01)
            yield change


@pytest.fixture
def late(plugins: Plugins) -> LocalEngine:
    """An engine on that hub."""
    loaded = load_plugins()
    source = PluginSource("late", "tests", "0")
    loaded.adapters["hub"] = AdapterEntry(LateHub, source)
    state = StateConfig(adapter_name="hub", adapter_config={"hub": unique()})
    return LocalEngine(Config(state=state), plugins=loaded)


def test_an_event_that_comes_late_is_waited_for(late: LocalEngine) -> None:
    with late as engine:
        heard: list[int] = []
        engine.register_function("t::hear", lambda event: heard.append(event["new_value"]))
        engine.register_trigger("state", "t::hear", {"scope": "a"})
        for number in range(3):
            engine.call("state::set", {"scope": "a", "key": "k", "value": number})
            engine.settle()
            assert heard == [*range(number + 1)]


def test_a_store_that_does_not_tell_is_named(late: LocalEngine) -> None:
    with late as engine:
        HELD_BACK.set()
        try:
            engine.state.set("a", "k", 1)
            with pytest.raises(TimeoutError, match="has not told of the write of a / k"):
                engine.settle(within=LAG / 3)
        finally:
            HELD_BACK.clear()
        engine.settle()


@pytest.mark.parametrize("adapter", ["redis", "postgres"])
def test_servers_tell_of_every_write(plugins: Plugins, adapter: str) -> None:
    """Also of a delete that found nothing, and of one whose answer was lost; not of a kept value."""
    settings = {
        "redis": lambda: {"redis_url": redis().url, "key_prefix": unique()},
        "postgres": lambda: {"database_url": postgres().url, "schema": unique()},
    }[adapter]()
    config = Config(state=StateConfig(adapter_name=adapter, adapter_config=settings))
    with LocalEngine(config, plugins=plugins, erase=True) as engine:
        heard: list[str] = []
        engine.register_function("t::hear", lambda event: heard.append(event["key"]))
        engine.register_trigger("state", "t::hear", {"scope": "a"})
        for number in range(20):
            engine.state.set("a", f"k{number}", number)
            engine.state.delete("a", "none")
            missed = {"scope": "a", "key": "k0", "expected": "other", "value": 1}
            assert engine.call("state::compare-and-set", missed)["swapped"] is False
            engine.settle()
            assert [key for key in heard if key != "none"] == [f"k{n}" for n in range(number + 1)]


def change(key: str, revision: int) -> Change:
    """A change of `a/<key>`."""
    return Change("a", key, None, b"1", revision)


def test_answers_and_events_come_in_any_order() -> None:
    untold = Untold()
    untold.promised(change("k", 1))
    untold.promised(change("k", 2))
    untold.told(change("k", 1))
    assert untold.waiting == {("a", "k"): 2}
    untold.told(change("k", 2))
    untold.told(change("k", 3))
    untold.promised(change("k", 3))
    untold.promised(change("other", 4))
    assert untold.waiting == {("a", "other"): 4}
    untold.forget()
    assert untold.waiting == {}


def test_a_store_of_one_host_promises_nothing(engine: LocalEngine) -> None:
    assert not MemoryAdapter.shared
    engine.state.set("a", "k", 1)
    engine.settle()


class SlowMemory(MemoryAdapter):
    """Answers every change a while after it was made."""

    name: ClassVar[str] = "slow"

    async def update(self, scope: str, key: str, change: ChangeFunction) -> Change:  # type: ignore[override]
        done = super().update(scope, key, change)
        await asyncio.sleep(LAG)
        return done

    async def set(self, scope: str, key: str, value: bytes) -> Change:  # type: ignore[override]
        return await self.update(scope, key, lambda _old: value)

    async def delete(self, scope: str, key: str) -> Change:  # type: ignore[override]
        return await self.update(scope, key, lambda _old: None)


class SlowHub(SlowMemory):
    """The same, shared: whoever calls a handler asks it first."""

    name: ClassVar[str] = "slow-hub"
    shared: ClassVar[bool] = True

    async def changes(self) -> AsyncIterator[Change]:
        await asyncio.Event().wait()
        yield change("k", 1)


class SlowSweep(MemoryAdapter):
    """Takes its time to delete what is over."""

    name: ClassVar[str] = "slow-sweep"

    async def sweep(self) -> int | None:  # type: ignore[override]
        await asyncio.sleep(LAG)
        return super().sweep()


def engine_on(kind: type[StateAdapter]) -> LocalEngine:
    """An engine on such a store."""
    loaded = load_plugins()
    loaded.adapters[kind.name] = AdapterEntry(kind, PluginSource(kind.name, "tests", "0"))
    return LocalEngine(Config(state=StateConfig(adapter_name=kind.name)), plugins=loaded)


@pytest.fixture(params=[SlowMemory, SlowHub])
def slow(request: pytest.FixtureRequest) -> LocalEngine:
    """An engine on a slow store."""
    return engine_on(request.param)


def early_in_a_minute(engine: LocalEngine) -> None:
    """The clock goes on by itself, too: a test has the rest of a minute before one more begins."""
    engine.clock.advance(70 - engine.clock.now % 60)


def test_jobs_that_wait_for_what_the_store_writes_are_waited_for(slow: LocalEngine) -> None:
    """In a fifo queue a job begins when the one before it is gone from the store."""
    with slow as engine:
        ran: list[int] = []
        engine.register_function("t::job", ran.append)
        config = {"topic": "t", "queue_config": {"type": "fifo"}}
        engine.register_trigger("durable:subscriber", "t::job", config)
        for number in range(3):
            engine.call("iii::durable::publish", {"topic": "t", "data": number})
        with pytest.raises(TimeoutError, match="the store has not answered"):
            engine.settle(within=LAG / 10)
        engine.settle()
        assert ran == [0, 1, 2]


def test_what_is_due_has_begun_when_the_clock_was_moved_and_settles(slow: LocalEngine) -> None:
    """Also where the store says first which host calls the handler."""
    with slow as engine:
        early_in_a_minute(engine)
        ticks: list[str] = []
        engine.register_function("t::tick", lambda event: ticks.append(event["scheduled_time"]))
        engine.register_trigger("cron", "t::tick", {"expression": "0 * * * * *"})
        for count in range(1, 4):
            engine.clock.advance(60)
            assert len(engine.calls.of("t::tick")) == count
            engine.settle()
            assert len(ticks) == count


def test_a_retry_that_the_clock_makes_due_has_begun(slow: LocalEngine) -> None:
    with slow as engine:
        engine.register_function("t::job", lambda _data: None)
        engine.register_trigger("durable:subscriber", "t::job", {"topic": "t"})
        engine.faults.fail("t::job", times=2)
        engine.call("iii::durable::publish", {"topic": "t", "data": 1})
        for count in range(1, 4):
            engine.settle()
            assert len(engine.calls.of("t::job")) == count
            engine.clock.advance(60)
        assert len(engine.calls.of("t::job")) == 3


def test_a_schedule_whose_handler_has_answered_misses_nothing(engine: LocalEngine) -> None:
    """It is moved on as soon as the answer is there, without settling."""
    early_in_a_minute(engine)
    engine.register_function("t::tick", lambda _event: None)
    engine.register_trigger("cron", "t::tick", {"expression": "0 * * * * *"})
    for count in range(1, 61):
        engine.clock.advance(60)
        engine.calls.expect("t::tick", count=count)
    engine.settle()
    assert len(engine.calls.of("t::tick")) == 60


def test_a_key_that_ended_is_told_when_it_has_settled() -> None:
    with engine_on(SlowSweep) as engine:
        engine.state.set("s", "k", 1)
        engine.call("iii-skill::state::expire", {"scope": "s", "key": "k", "ttl_ms": 60_000})
        engine.clock.advance(61)
        engine.settle()
        assert [event.type for event in engine.events.of(key="k")] == ["state:created", "state:deleted"]
