"""An engine in the test's process: state, events, calls, settling, its clock, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.served import wait_until

from iii_skill.config import Config, StateConfig
from iii_skill.errors import InvocationError, StoreRefused
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.local import LocalEngine


def test_state_is_written_and_read(engine: LocalEngine) -> None:
    engine.state.set("shop", "chair", {"stock": 3})
    engine.state.set("shop", "table", 0)
    assert engine.state.get("shop", "chair") == {"stock": 3}
    assert engine.state.get("shop", "sofa") is None
    assert engine.state.list("shop") == {"chair": {"stock": 3}, "table": 0}
    engine.state.delete("shop", "chair")
    assert (engine.state.scopes(), engine.state.list("shop")) == (("shop",), {"table": 0})


def test_a_scope_of_many_pages_is_listed_whole(engine: LocalEngine) -> None:
    wanted = {f"k{number}": number for number in range(2500)}
    engine.state.load({"many": wanted})
    assert engine.state.list("many") == wanted


def test_a_snapshot_is_restored_exactly(engine: LocalEngine) -> None:
    before = {"a": {"one": 1, "flag": True, "nested": {"x": [1, 1.0]}}, "b": {"k": "v"}}
    engine.state.load(before)
    kept = engine.state.snapshot()
    engine.state.load({"a": {"one": True, "new": 1}, "c": {"k": None}})
    engine.state.delete("b", "k")
    engine.state.restore(kept)
    assert json.dumps(engine.state.snapshot()) == json.dumps(before)


def test_an_event_of_before_is_found(engine: LocalEngine) -> None:
    engine.state.set("a", "k", 1)
    engine.state.set("a", "k", 2)
    event = engine.events.expect(scope="a", key="k", type="state:updated", within=0.0)
    assert (event.old_value, event.new_value) == (1, 2)
    assert [one.type for one in engine.events.all] == ["state:created", "state:updated"]
    engine.state.delete("a", "k")
    assert engine.events.expect(after=event).type == "state:deleted"


def test_an_event_to_come_is_waited_for(engine: LocalEngine) -> None:
    writer = threading.Timer(0.05, engine.state.set, ("late", "k", {"n": 1}))
    writer.start()
    try:
        assert engine.events.expect(scope="late", value={"n": 1}).new_value == {"n": 1}
    finally:
        writer.join()


def test_an_event_that_does_not_come_says_what_did(engine: LocalEngine) -> None:
    engine.state.set("shop", "chair", {"stock": 3})
    with pytest.raises(AssertionError) as caught:
        engine.events.expect(scope="shop", key="table", within=0.01)
    text = str(caught.value)
    assert "scope='shop', key='table'" in text
    assert "state:created" in text
    assert 'shop / chair  null -> {"stock":3}' in text


def test_expect_misses_nothing_beside_a_writer_under_load(engine: LocalEngine) -> None:
    """The reader asks while the event comes, thousands of times."""
    rounds = 1500

    def write() -> None:
        for number in range(rounds):
            engine.call("state::set", {"scope": "race", "key": f"k{number}", "value": number})

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(rounds):
            assert engine.events.expect(scope="race", key=f"k{number}", within=60).new_value == number
    finally:
        for writer in writers:
            writer.join()


def test_calls_are_recorded_with_their_answers(engine: LocalEngine) -> None:
    engine.register_function("shop::price", lambda payload: {"price": payload["n"] * 2})
    engine.call("shop::price", {"n": 2})
    with pytest.raises(InvocationError):
        engine.call("shop::price", {"wrong": True})
    good, bad = engine.calls.of("shop::price")
    assert (good.payload, good.result, good.error, good.caller) == ({"n": 2}, {"price": 4}, None, "the test")
    assert (bad.payload, bad.result, bad.error) == ({"wrong": True}, None, "invocation_failed")
    assert engine.calls.expect("shop::*", payload={"n": 2}) is good


def test_a_call_that_was_not_made_says_which_were(engine: LocalEngine) -> None:
    engine.call("state::get", {"scope": "a", "key": "k"})
    with pytest.raises(AssertionError, match=r"0 of 1 answered call\(s\) of mail::send") as caught:
        engine.calls.expect("mail::send", within=0.01)
    assert 'state::get  {"scope":"a","key":"k"} -> null' in str(caught.value)


def test_what_the_test_sets_up_is_not_a_call_of_a_worker(engine: LocalEngine) -> None:
    engine.state.set("a", "k", 1)
    assert engine.calls.all == []


def test_settling_waits_for_the_last_event(engine: LocalEngine) -> None:
    handled: list[Any] = []

    async def handle(event: Any) -> None:
        await asyncio.sleep(0.03)
        handled.append(event["new_value"])

    engine.register_function("slow::handle", handle)
    engine.register_trigger("state", "slow::handle", {"scope": "a"})
    for number in range(5):
        engine.state.set("a", "k", number)
    engine.settle()
    assert handled == [0, 1, 2, 3, 4]


def test_what_does_not_settle_is_named(engine: LocalEngine) -> None:
    async def stuck(_event: Any) -> None:
        await asyncio.sleep(60)

    engine.register_function("stuck::handle", stuck)
    engine.register_trigger("state", "stuck::handle", {"scope": "a"})
    engine.state.set("a", "k", 1)
    engine.state.set("a", "k", 2)
    with pytest.raises(TimeoutError) as caught:
        engine.settle(within=0.1)
    assert "stuck::handle, called by the engine" in str(caught.value)
    assert "1 event(s) wait for stuck::handle, 1 are out" in str(caught.value)


def test_the_clock_makes_a_schedule_due(engine: LocalEngine) -> None:
    engine.register_function("nightly::run", lambda _event: None)
    engine.register_trigger("cron", "nightly::run", {"expression": "0 0 3 * * *"})
    before = engine.clock.now
    engine.clock.advance(24 * 3600)
    assert engine.calls.expect("nightly::run").error is None
    assert engine.clock.now - before >= 24 * 3600


def test_the_transcript_has_a_line_for_all_that_happened(engine: LocalEngine) -> None:
    engine.state.set("a", "k", 1)
    engine.call("state::get", {"scope": "a", "key": "k"})
    event, call = map(json.loads, engine.transcript.splitlines())
    assert (event["what"], event["scope"], event["new_value"]) == ("event", "a", 1)
    assert (call["what"], call["function_id"], call["result"]) == ("call", "state::get", 1)


def test_a_function_inside_the_engine_that_waits_for_it_is_told(engine: LocalEngine) -> None:
    engine.register_function("own::goal", lambda _payload: engine.state.get("a", "k"))
    with pytest.raises(InvocationError, match="would wait for itself"):
        engine.call("own::goal")


def test_a_file_store_is_used(plugins: Plugins, tmp_path: Path) -> None:
    config = Config(state=StateConfig(adapter_name="file", adapter_config={"data_dir": str(tmp_path / "s")}))
    with LocalEngine(config, plugins=plugins) as engine:
        engine.state.set("a", "k", 1)
        engine.faults.restart()
        assert engine.state.get("a", "k") == 1
    with LocalEngine(config, plugins=plugins) as engine:
        assert engine.state.snapshot() == {"a": {"k": 1}}


def test_an_engine_without_http_says_so(plugins: Plugins) -> None:
    config = Config(http=None, state=StateConfig(adapter_name="memory"))
    with LocalEngine(config, plugins=plugins) as engine, pytest.raises(RuntimeError, match="no HTTP port"):
        engine.http.get("/")


def test_a_store_that_is_refused_leaves_nothing_behind(plugins: Plugins, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file where a directory has to be")
    config = Config(state=StateConfig(adapter_name="file", adapter_config={"data_dir": str(tmp_path / "s")}))
    before = resources()
    for _ in range(3):
        with pytest.raises(StoreRefused):
            LocalEngine(config, plugins=plugins).start()
    wait_until(f"the threads and descriptors {before}", lambda: resources() == before)


def resources() -> tuple[int, int]:
    """How many threads and descriptors this process has; a thread that has answered is not gone yet."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def test_two_hundred_engines_leave_no_thread_and_no_descriptor(plugins: Plugins) -> None:
    def use() -> None:
        with LocalEngine(plugins=plugins) as engine:
            engine.state.set("a", "k", 1)
            engine.http.get("/nowhere").expect(404)
            engine.events.expect(scope="a", key="k")

    before = resources()
    for _ in range(200):
        use()
    wait_until(f"the threads and descriptors {before}", lambda: resources() == before)
