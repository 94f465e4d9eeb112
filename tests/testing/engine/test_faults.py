"""What goes wrong on demand: which calls it strikes, what callers get, and what was done all the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from iii_skill.errors import InvocationError
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.local import LocalEngine


def increment(engine: LocalEngine, *, within: float = 30.0) -> Any:
    """Add one to `a/k`."""
    ops = [{"type": "increment", "path": "n", "by": 1}]
    return engine.call("state::update", {"scope": "a", "key": "k", "ops": ops}, within=within)


def outcomes(engine: LocalEngine, calls: int) -> list[bool]:
    """Which of so many calls succeeded."""
    found = []
    for _ in range(calls):
        try:
            increment(engine)
            found.append(True)
        except InvocationError:
            found.append(False)
    return found


def test_a_call_that_fails_is_not_made(engine: LocalEngine) -> None:
    fault = engine.faults.fail("state::update", code="busy", message="come back later")
    with pytest.raises(InvocationError, match="come back later") as caught:
        increment(engine)
    assert (caught.value.code, fault.hits, engine.state.get("a", "k")) == ("busy", 1, None)
    increment(engine)
    assert engine.state.get("a", "k") == {"n": 1}


def test_a_fault_strikes_as_often_as_it_says(engine: LocalEngine) -> None:
    fault = engine.faults.fail("state::*", times=3)
    assert outcomes(engine, 5) == [False, False, False, True, True]
    assert fault.hits == 3


def test_a_probability_is_the_same_in_every_run(engine: LocalEngine) -> None:
    first = engine.faults.fail("state::update", probability=0.5, seed=7)
    one = outcomes(engine, 40)
    first.stop()
    engine.faults.fail("state::update", probability=0.5, seed=7)
    assert outcomes(engine, 40) == one
    assert 5 < sum(one) < 35


def test_other_functions_are_spared(engine: LocalEngine) -> None:
    fault = engine.faults.fail("state::delete")
    increment(engine)
    engine.state.delete("a", "k")
    assert (fault.hits, engine.state.get("a", "k")) == (0, None)


def test_a_lost_reply_was_a_call_all_the_same(engine: LocalEngine) -> None:
    engine.faults.lose_reply("state::update")
    with pytest.raises(InvocationError) as caught:
        increment(engine)
    assert caught.value.code == "TIMEOUT"
    increment(engine)
    assert engine.state.get("a", "k") == {"n": 2}
    lost, second = engine.calls.of("state::update")
    assert (lost.fault, lost.error, second.fault) == ("lose_reply state::update", None, None)


def test_a_reply_that_never_comes_is_no_call_in_flight(engine: LocalEngine) -> None:
    engine.faults.lose_reply("state::update", code=None)
    with pytest.raises(InvocationError, match="timed out"):
        increment(engine, within=0.05)
    engine.settle()
    assert engine.state.get("a", "k") == {"n": 1}


def test_a_delayed_call_is_overtaken(engine: LocalEngine) -> None:
    engine.register_function("order::note", lambda payload: payload)
    engine.faults.delay("order::note", 600)
    engine.register_trigger("state", "order::note", {"scope": "a"})
    engine.state.set("a", "first", 1)
    engine.state.set("a", "second", 2)
    assert engine.calls.expect("order::note").payload["key"] == "second"
    calls = engine.calls.of("order::note")
    assert [(call.payload["key"], call.answered) for call in calls] == [("first", False), ("second", True)]


def test_a_delayed_call_is_made_so_much_later(engine: LocalEngine) -> None:
    engine.register_function("order::note", lambda payload: payload)
    engine.faults.delay("order::note", 0.2)
    engine.register_trigger("state", "order::note", {"scope": "a"})
    engine.state.set("a", "first", 1)
    engine.settle()
    (call,) = engine.calls.of("order::note")
    assert (call.payload["key"], (call.seconds or 0) >= 0.2) == ("first", True)


def test_a_delay_is_in_flight(engine: LocalEngine) -> None:
    engine.register_function("slow::run", lambda _payload: None)
    engine.register_trigger("state", "slow::run", {})
    engine.faults.delay("slow::run", 30)
    engine.state.set("a", "k", 1)
    with pytest.raises(TimeoutError, match="slow::run"):
        engine.settle(within=0.1)


def test_a_restart_keeps_ports_data_functions_and_time(engine: LocalEngine) -> None:
    engine.register_function("own::answer", lambda _payload: 42)
    engine.state.set("a", "k", {"n": 1})
    engine.clock.advance(3600)
    ports = (engine.url, engine.http_url)
    engine.faults.restart()
    assert (engine.url, engine.http_url) == ports
    assert engine.state.snapshot() == {"a": {"k": {"n": 1}}}
    assert engine.call("own::answer") == 42
    assert engine.clock.now - time.time() >= 3599
    engine.state.set("a", "k", {"n": 2})
    assert engine.events.expect(scope="a", value={"n": 2}).type == "state:updated"
    assert [event.type for event in engine.events.all] == ["state:created", "state:updated"]


def test_a_restart_keeps_the_ports_of_companions(engine: LocalEngine, plugins: Plugins) -> None:
    before = engine.companion_urls
    engine.faults.restart()
    with LocalEngine(plugins=plugins) as other:
        other.faults.restart()
        assert other.companion_urls.keys() == before.keys() == {"iii-stream"}
        assert other.companion_urls != before == engine.companion_urls


def test_a_job_of_the_queue_survives_a_restart(engine: LocalEngine) -> None:
    """The private stores of companions are kept as well, and the clock makes its retry due."""
    engine.register_function("orders::ship", lambda _payload: None)
    engine.register_trigger("durable:subscriber", "orders::ship", {"topic": "orders"})
    engine.faults.fail("orders::ship")
    engine.call("iii::durable::publish", {"topic": "orders", "data": {"id": 1}})
    assert engine.calls.expect("orders::ship").fault == "fail orders::ship"
    engine.settle()
    engine.faults.restart()
    engine.clock.advance(3600)
    again = engine.calls.expect("orders::ship", count=2)
    assert (again.error, again.payload) == (None, {"id": 1})


def test_a_restart_in_the_middle_of_a_call_loses_its_answer(engine: LocalEngine) -> None:
    engine.faults.restart("state::update")
    with pytest.raises(InvocationError):
        increment(engine, within=0.5)
    engine.settle()
    assert engine.state.get("a", "k") == {"n": 1}


def test_what_comes_during_a_restart_waits_for_its_end(engine: LocalEngine) -> None:
    engine.faults.restart("state::update")
    with pytest.raises(InvocationError):
        increment(engine, within=0.01)
    assert engine.state.get("a", "k") == {"n": 1}
    increment(engine)
    assert engine.state.get("a", "k") == {"n": 2}


def test_a_delayed_call_is_not_made_after_a_restart(engine: LocalEngine) -> None:
    engine.faults.delay("state::update", 600)
    with pytest.raises(InvocationError):
        increment(engine, within=0.01)
    before = engine._host.host
    assert before is not None
    (due,) = before.watched._late
    engine.faults.restart()
    assert due.cancelled()
    assert (engine.state.get("a", "k"), engine.events.all) == (None, [])


def test_faults_of_everything_let_workers_introduce_themselves(engine: LocalEngine) -> None:
    engine.faults.fail("*", times=5)
    assert engine.call("engine::functions::list")["functions"]
    assert outcomes(engine, 1) == [False]


def test_clearing_ends_all_faults(engine: LocalEngine) -> None:
    fault = engine.faults.fail("state::update", times=100)
    engine.faults.clear()
    increment(engine)
    assert fault.hits == 0


@pytest.mark.parametrize("wrong", [{"times": 0}, {"probability": 0.0}, {"probability": 1.5}])
def test_a_fault_that_never_strikes_is_refused(engine: LocalEngine, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        engine.faults.fail("state::update", **wrong)
