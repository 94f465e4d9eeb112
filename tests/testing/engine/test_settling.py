"""Settling on a store that hosts share: its stream tells late, and is waited for exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from iii_state_memory import MemoryAdapter
from support.hub_adapter import HubAdapter
from support.postgres import shared as postgres
from support.redis import shared as redis

from iii_skill.config import Config, StateConfig
from iii_skill.plugins import AdapterEntry, Plugins, PluginSource, load_plugins
from iii_skill.testing import unique
from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.untold import Untold
from iii_skill.values import Change

LAG = 0.3


class LateHub(HubAdapter):
    """Its stream tells of every change a while after the answer."""

    async def changes(self) -> AsyncIterator[Change]:
        async for change in super().changes():
            await asyncio.sleep(LAG)
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
        engine.state.set("a", "k", 1)
        with pytest.raises(TimeoutError, match="has not told of the write of a / k"):
            engine.settle(within=LAG / 3)
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
