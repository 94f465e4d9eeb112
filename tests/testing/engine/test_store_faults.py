"""A full disk and a slow store: what callers see is what they see of a real one."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.faulty_disk import FULL, faulty_disk
from support.redis import shared

from iii_skill.config import Config, StateConfig
from iii_skill.errors import InvocationError
from iii_skill.plugins import Plugins
from iii_skill.testing import unique
from iii_skill.testing.engine.local import LocalEngine

WRITES: dict[str, dict[str, Any]] = {
    "state::set": {"value": {"n": 1}},
    "state::update": {"ops": [{"type": "increment", "path": "n", "by": 1}]},
    "state::compare-and-set": {"expected": {"n": 0}, "value": 1},
    "state::delete": {},
}


def write(engine: LocalEngine, function_id: str = "state::update", key: str = "k", **options: Any) -> Any:
    """Call a writing function on `a/<key>`."""
    return engine.call(function_id, {"scope": "a", "key": key, **WRITES[function_id]}, **options)


def on_file(plugins: Plugins, directory: Path) -> LocalEngine:
    """An engine with a store in that directory."""
    state = StateConfig(adapter_name="file", adapter_config={"data_dir": str(directory)})
    return LocalEngine(Config(state=state), plugins=plugins)


@pytest.mark.parametrize("function_id", WRITES)
def test_a_full_disk_is_that_of_the_file_adapter(plugins: Plugins, tmp_path: Path, function_id: str) -> None:
    """Code and sentence are those of a write that SQLite itself refused with SQLITE_FULL."""
    found = []
    with on_file(plugins, tmp_path / "data") as engine:
        engine.state.set("a", "k", {"n": 0})
        engine.faults.disk_full(function_id)
        with pytest.raises(InvocationError) as injected:
            write(engine, function_id)
        engine.settle()
        assert engine.state.get("a", "k") == {"n": 0}
        found.append((injected.value.code, injected.value.message))
    with faulty_disk(tmp_path / "data") as disk, on_file(plugins, tmp_path / "data") as engine:
        engine.state.set("a", "k", {"n": 0})
        disk.faults["write", disk.counts["write"]] = FULL
        with pytest.raises(InvocationError) as real:
            write(engine, function_id)
        engine.settle()
        assert engine.state.get("a", "k") == {"n": 0}
        found.append((real.value.code, real.value.message))
    assert found[0] == found[1] != []


def test_the_engine_starts_again_after_a_full_disk(engine: LocalEngine) -> None:
    engine.state.set("a", "k", {"n": 1})
    fault = engine.faults.disk_full("state::update", times=2)
    for _ in range(2):
        with pytest.raises(InvocationError, match="disk is full") as caught:
            write(engine)
        assert caught.value.code == "UPDATE_ERROR"
        engine.settle()
    write(engine)
    assert (fault.hits, engine.state.get("a", "k")) == (2, {"n": 2})
    assert engine.transcript.count("the engine is up again") == 2


def test_reads_and_what_is_refused_meet_no_full_disk(engine: LocalEngine) -> None:
    fault = engine.faults.disk_full()
    engine.call("state::get", {"scope": "a", "key": "k"})
    assert fault.hits == 0
    with pytest.raises(InvocationError) as caught:
        engine.call("state::set", {"scope": "a"})
    assert caught.value.code == "deserialization_error"
    write(engine)
    assert "up again" not in engine.transcript


def test_a_full_server_only_refuses_the_write(plugins: Plugins) -> None:
    state = StateConfig(
        adapter_name="redis", adapter_config={"redis_url": shared().url, "key_prefix": unique()}
    )
    with LocalEngine(Config(state=state), plugins=plugins, erase=True) as engine:
        write(engine)
        engine.faults.disk_full("state::update")
        with pytest.raises(InvocationError, match="full") as caught:
            write(engine)
        assert caught.value.code == "UPDATE_ERROR"
        write(engine)
        assert engine.state.get("a", "k") == {"n": 2}
        assert "up again" not in engine.transcript


def engine_on(plugins: Plugins, directory: Path, adapter: str) -> LocalEngine:
    settings = {
        "memory": {},
        "file": {"data_dir": str(directory / "data")},
        "redis": {"redis_url": shared().url, "key_prefix": unique()},
    }
    config = Config(state=StateConfig(adapter_name=adapter, adapter_config=settings[adapter]))
    return LocalEngine(config, plugins=plugins, erase=adapter == "redis")


@pytest.mark.parametrize("adapter", ["memory", "file", "redis"])
def test_a_slow_store_holds_up_no_other_key(plugins: Plugins, tmp_path: Path, adapter: str) -> None:
    with engine_on(plugins, tmp_path, adapter) as engine:
        fault = engine.faults.slow_store("state::update", seconds=60)
        with pytest.raises(InvocationError):
            write(engine, within=0.05)
        assert fault.hits == 1
        assert write(engine, key="other")["new_value"] == {"n": 1}


@pytest.mark.parametrize("adapter", ["memory", "file", "redis"])
def test_a_slow_store_answers_late_and_in_order(plugins: Plugins, tmp_path: Path, adapter: str) -> None:
    answers: list[Any] = []
    with engine_on(plugins, tmp_path, adapter) as engine:
        write(engine)
        fault = engine.faults.slow_store("state::update", seconds=0.5)
        slow = threading.Thread(target=lambda: answers.append(write(engine)["new_value"]["n"]))
        slow.start()
        while not fault.hits:
            time.sleep(0.001)
        answers.append(write(engine)["new_value"]["n"])
        slow.join()
        assert sorted(answers) == [2, 3]
        first, second = (engine.calls.of("state::update")[at] for at in (1, 2))
        assert 0.5 <= (first.seconds or 0) <= second.at - first.at + (second.seconds or 0)
        engine.settle()
        assert [event.new_value for event in engine.events.of(key="k")] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_slow_store_holds_no_other_key_up(plugins: Plugins, tmp_path: Path) -> None:
    with on_file(plugins, tmp_path / "data") as engine:
        engine.faults.slow_store("state::update", seconds=600)
        with pytest.raises(InvocationError):
            write(engine, within=0.05)
        write(engine, key="other")
        assert [call.answered for call in engine.calls.of("state::update")] == [False, True]


def test_a_caller_gives_up_on_a_write_that_was_made(engine: LocalEngine) -> None:
    engine.faults.slow_store("state::update", seconds=0.3)
    with pytest.raises(InvocationError) as caught:
        write(engine, within=0.05)
    assert caught.value.code == "invocation_failed" or "timed out" in caught.value.message
    assert engine.state.get("a", "k") == {"n": 1}


def test_an_engine_ends_while_its_store_is_slow(plugins: Plugins) -> None:
    with LocalEngine(plugins=plugins) as engine:
        engine.faults.slow_store("state::set", seconds=60)
        with pytest.raises(InvocationError):
            write(engine, "state::set", within=0.05)
        engine.faults.restart()
        assert engine.state.get("a", "k") == {"n": 1}


def test_a_slow_store_may_be_slow_at_random(engine: LocalEngine) -> None:
    fault = engine.faults.slow_store("state::*", seconds=0.01, probability=0.5, seed=3)
    for _ in range(20):
        write(engine)
    assert 3 < fault.hits < 17
    assert engine.state.get("a", "k") == {"n": 20}
