"""Trigger types of workers and of the host, and the fan-out of events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.peers import Peer, pass_time, turns

from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import Fanout
from iii_skill.errors import TriggerRefused
from iii_skill.introspection.functions import add_engine_functions
from iii_skill.triggers import Trigger, TriggerProvider

TYPE = {"type": "registertriggertype", "id": "my:type", "description": "d"}

HANDLER_TIMEOUT_S = 30.0

DEEP = json.loads("[" * 124 + "]" * 124)
"""JSON that a payload may hold and a listing may not: there it stands two levels deeper."""


class Clock(TriggerProvider):
    """A trigger type inside the host that refuses what says `bad`."""

    trigger_type = "clock"
    description = "ticks"

    def __init__(self) -> None:
        self.live: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        if trigger.settings() == "bad":
            raise TriggerRefused("no such hour")
        self.live[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        self.live.pop(trigger.id, None)


@pytest.fixture
async def engine() -> Engine:
    engine = Engine(handler_timeout_s=HANDLER_TIMEOUT_S)
    add_engine_functions(engine)
    return engine


class TestTypesOfWorkers:
    async def test_a_trigger_waits_for_its_provider(self, engine: Engine) -> None:
        user, provider = Peer(engine), Peer(engine)
        user.bind("my:type", "h::a", {"x": 1}, id="tr1", metadata={"m": 1})
        assert user.received() == []
        provider.send(TYPE)
        assert provider.received() == [
            {
                "type": "registertrigger",
                "id": "tr1",
                "trigger_type": "my:type",
                "function_id": "h::a",
                "config": {"x": 1},
                "metadata": {"m": 1},
            }
        ]

    async def test_firing_is_an_ordinary_call(self, engine: Engine) -> None:
        user, provider = Peer(engine), Peer(engine)
        user.register("h::a")
        provider.send(TYPE)
        provider.call("h::a", {"ev": 1}, void=True, metadata={"m": 1})
        (invocation,) = user.received()
        assert (invocation["data"]["ev"], invocation["metadata"]) == (1, {"m": 1})

    async def test_only_a_refusal_is_forwarded_and_it_is_retried_with_the_next_provider(
        self, engine: Engine
    ) -> None:
        user, provider = Peer(engine), Peer(engine)
        provider.send(TYPE)
        user.bind("my:type", "h::a", {}, id="tr1")
        user.bind("my:type", "h::a", {}, id="tr2")
        provider.received()
        verdict = {"type": "triggerregistrationresult", "trigger_type": "my:type", "function_id": "h::a"}
        refusal = {
            **verdict,
            "id": "tr2",
            "error": {"code": "trigger_registration_failed", "message": "nope"},
        }
        provider.send({**verdict, "id": "tr1"})
        Peer(engine).send({**refusal, "id": "tr1"})
        provider.send(refusal)
        assert user.received() == [refusal]
        provider.send(TYPE)
        assert {m["id"] for m in provider.received()} == {"tr1", "tr2"}

    async def test_nobody_takes_a_type_of_a_live_provider_and_gets_its_settings(self, engine: Engine) -> None:
        user, first, second = Peer(engine), Peer(engine), Peer(engine)
        first.send(TYPE)
        user.bind("my:type", "h::a", {"secret": 1}, id="tr1")
        first.received()
        second.send(TYPE)
        (refusal,) = second.received()
        assert refusal["type"] == "registrationrejected"
        assert refusal["owner_worker_id"] == first.worker.id
        second.leave()
        assert first.received() == []
        first.send(TYPE)
        assert [m["id"] for m in first.received()] == ["tr1"]
        first.send({"type": "unregistertriggertype", "id": "my:type"})
        user.send({"type": "unregistertrigger", "id": "tr1"})
        assert first.received() == []

    async def test_a_refused_provider_gets_the_type_when_the_first_is_gone(self, engine: Engine) -> None:
        user, first, second, third = (Peer(engine) for _ in range(4))
        first.send(TYPE)
        user.bind("my:type", "h::a", {}, id="tr1")
        second.send(TYPE)
        third.send(TYPE)
        second.received(), third.received()
        first.leave()
        assert [m["id"] for m in second.received()] == ["tr1"]
        assert third.received() == []
        second.send({"type": "unregistertriggertype", "id": "my:type"})
        assert [m["id"] for m in third.received()] == ["tr1"]

    async def test_the_provider_hears_when_a_subscriber_leaves(self, engine: Engine) -> None:
        user, provider = Peer(engine), Peer(engine)
        provider.send(TYPE)
        user.bind("my:type", "h::a", {}, id="tr1")
        provider.received()
        user.leave()
        assert provider.received() == [{"type": "unregistertrigger", "id": "tr1", "trigger_type": "my:type"}]

    async def test_only_its_owner_removes_or_moves_a_trigger(self, engine: Engine) -> None:
        user, provider, thief = Peer(engine), Peer(engine), Peer(engine)
        provider.send(TYPE)
        user.bind("my:type", "h::a", {}, id="tr1")
        provider.received()
        thief.send({"type": "unregistertrigger", "id": "tr1", "trigger_type": "my:type"})
        thief.bind("my:type", "evil::a", {}, id="tr1")
        assert "belongs to another worker" in thief.received()[0]["error"]["message"]
        assert provider.received() == []
        user.bind("my:type", "h::b", {}, id="tr1")
        assert [m["function_id"] for m in provider.received()] == ["h::b"]

    async def test_a_reconnected_worker_replays_its_triggers_while_the_old_socket_stands(
        self, engine: Engine
    ) -> None:
        old, again, provider = Peer(engine), Peer(engine), Peer(engine)
        provider.send(TYPE)
        old.bind("my:type", "h::a", {}, id="tr1")
        again.bind("my:type", "h::a", {}, id="tr1")
        assert again.received() == []
        old.leave()
        assert engine.triggers.triggers["tr1"].owner_id == again.worker.id

    async def test_namespaces_of_trigger_and_target(self, engine: Engine) -> None:
        user = Peer(engine, namespace="orders")
        default, orders = Peer(engine), Peer(engine, namespace="orders")
        default.send(TYPE)
        user.bind("my:type", "h::a", {}, id="a", namespace="orders")
        assert default.received()[0]["namespace"] == "orders"
        orders.send(TYPE)
        user.bind("my:type", "h::a", {}, id="b")
        assert [m["id"] for m in orders.received()] == ["b"]
        user.bind("my:type", "h::a", {}, id="c", trigger_namespace="orders")
        assert orders.received()[0]["trigger_namespace"] == "orders"
        user.bind("my:type", "h::a", {}, id="d", trigger_namespace="nowhere")
        assert (default.received(), orders.received()) == ([], [])
        user.bind("my:type", "h::a", {}, id="e", namespace=" ")
        assert user.received()[-1]["error"]["code"] == "INVALID_NAMESPACE"


class TestTypesOfTheHost:
    async def test_a_refused_trigger_is_answered_and_leaves_the_old_one(self, engine: Engine) -> None:
        clock = Clock()
        engine.add_provider(clock)
        user = Peer(engine)
        user.bind("clock", "h::a", "good", id="tr1")
        assert user.received() == []
        user.bind("clock", "h::a", "bad", id="tr1")
        assert user.received() == [
            {
                "type": "triggerregistrationresult",
                "id": "tr1",
                "trigger_type": "clock",
                "function_id": "h::a",
                "error": {"code": "trigger_registration_failed", "message": "no such hour"},
            }
        ]
        assert clock.live["tr1"].settings() == "good"
        user.leave()
        assert clock.live == {}

    async def test_no_worker_takes_a_type_of_the_host(self, engine: Engine) -> None:
        clock = Clock()
        engine.add_provider(clock)
        thief, user = Peer(engine), Peer(engine)
        thief.send({**TYPE, "id": "clock"})
        assert [m["type"] for m in thief.received()] == ["registrationrejected"]
        user.bind("clock", "h::a", {}, id="tr1")
        assert thief.received() == []
        assert list(clock.live) == ["tr1"]

    async def test_parked_triggers_start_with_a_new_type(self, engine: Engine) -> None:
        user = Peer(engine)
        user.bind("clock", "h::a", "good", id="tr1")
        clock = Clock()
        engine.add_provider(clock)
        assert list(clock.live) == ["tr1"]

    @pytest.mark.parametrize(
        ("kind", "server"), [("cron", "iii-cron"), ("queue", "iii-queue"), ("stream", "iii-stream")]
    )
    async def test_types_that_are_not_served_name_who_serves_them(
        self, engine: Engine, kind: str, server: str
    ) -> None:
        user = Peer(engine)
        user.bind(kind, "h::a", {}, id="tr1")
        message = user.received()[0]["error"]["message"]
        assert kind in message
        assert server in message
        provider = Peer(engine)
        provider.send({**TYPE, "id": kind})
        assert [m["id"] for m in provider.received()] == ["tr1"]

    async def test_durable_triggers_outlive_their_creator(self, engine: Engine) -> None:
        clock = Clock()
        engine.add_provider(clock)
        user = Peer(engine)
        payload = {"trigger_type": "clock", "function_id": "h::a", "config": "good"}
        trigger_id = user.ask("engine::register_trigger", payload)["result"]["id"]
        refused = user.ask("engine::register_trigger", {**payload, "config": "bad"})["error"]
        assert refused == {"code": "trigger_registration_failed", "message": "no such hour"}
        user.leave()
        assert list(clock.live) == [trigger_id]
        other = Peer(engine)
        assert other.ask("engine::unregister_trigger", {"id": trigger_id})["result"] == {"removed": True}
        assert other.ask("engine::unregister_trigger", {"id": trigger_id})["result"] == {"removed": False}


class TestFanout:
    """Lanes: in order inside one, independent of each other, bounded by a time-out."""

    @pytest.fixture
    async def worker(self, engine: Engine) -> Peer:
        worker = Peer(engine)
        for name in ("h::a", "h::b", "h::condition"):
            worker.register(name)
        return worker

    @pytest.fixture
    async def trigger(self, worker: Peer) -> Trigger:
        return Trigger("tr1", "clock", "h::a", metadata=b'{"m":1}', owner_id=worker.worker.id)

    async def test_one_lane_is_in_order_and_waits_for_the_handler(
        self, engine: Engine, worker: Peer, trigger: Trigger
    ) -> None:
        for number in range(3):
            engine.fanout.fire(trigger, "lane", b"%d" % number)
        seen = []
        while messages := worker.received():
            (invocation,) = messages
            assert invocation["metadata"] == {"m": 1}
            seen.append(invocation["data"])
            worker.answer(invocation, result=None)
            await turns()
        assert seen == [0, 1, 2]
        assert engine.fanout.active == 0

    async def test_lanes_do_not_wait_for_each_other(
        self, engine: Engine, worker: Peer, trigger: Trigger
    ) -> None:
        other = Trigger("tr2", "clock", "h::b")
        for lane_trigger, lane in ((trigger, "k1"), (trigger, "k2"), (other, "k1")):
            engine.fanout.fire(lane_trigger, lane, b"1")
        assert [m["function_id"] for m in worker.received()] == ["h::a", "h::a", "h::b"]

    async def test_a_handler_that_never_answers_is_left_behind(
        self, engine: Engine, worker: Peer, trigger: Trigger, caplog: pytest.LogCaptureFixture
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1")
        engine.fanout.fire(trigger, "lane", b"2")
        (first,) = worker.received()
        await turns()
        assert worker.received() == []
        pass_time(HANDLER_TIMEOUT_S)
        while not (second := worker.received()):
            await asyncio.sleep(0)
        assert second[0]["data"] == 2
        assert "did not answer" in caplog.text
        worker.answer(first, result=None)
        worker.answer(second[0], result=None)
        assert engine.fanout.active == 0

    @pytest.mark.parametrize("condition", [None, "h::condition"])
    async def test_a_call_that_was_left_behind_is_not_kept(
        self, engine: Engine, worker: Peer, trigger: Trigger, condition: str | None
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1", condition)
        assert engine.in_flight == 1
        pass_time(HANDLER_TIMEOUT_S)
        while engine.fanout.active:
            await asyncio.sleep(0)
        assert engine.in_flight == 0

    @pytest.mark.parametrize("verdict", [None, 0, "", "false", {}, True])
    async def test_any_verdict_but_false_lets_the_handler_run(
        self, engine: Engine, worker: Peer, trigger: Trigger, verdict: Any
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1", "h::condition")
        (condition,) = worker.received()
        assert (condition["function_id"], condition["data"]) == ("h::condition", 1)
        assert "metadata" not in condition
        worker.answer(condition, result=verdict)
        assert [m["function_id"] for m in worker.received()] == ["h::a"]

    @pytest.mark.parametrize("outcome", [{"result": False}, {"error": {"code": "E", "message": "m"}}])
    async def test_false_and_errors_skip_the_handler(
        self, engine: Engine, worker: Peer, trigger: Trigger, outcome: dict[str, Any]
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1", "h::condition")
        engine.fanout.fire(trigger, "lane", b"2")
        worker.answer(worker.received()[0], **outcome)
        await turns()
        assert [m["data"] for m in worker.received()] == [2]

    @pytest.mark.parametrize("condition", ["", "nobody::home"])
    async def test_a_missing_condition_skips_the_handler(
        self, engine: Engine, worker: Peer, trigger: Trigger, condition: str
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1", condition)
        assert worker.received() == []
        assert engine.fanout.active == 0

    async def test_a_failing_or_missing_handler_does_not_stop_the_lane(
        self, engine: Engine, worker: Peer, trigger: Trigger
    ) -> None:
        engine.fanout.fire(trigger, "lane", b"1")
        engine.fanout.fire(trigger, "lane", b"2")
        worker.answer(worker.received()[0], error={"code": "E", "message": "m"})
        await turns()
        worker.send({"type": "unregisterfunction", "id": "h::a"})
        engine.fanout.fire(trigger, "lane", b"3")
        worker.answer(worker.received()[0], result=None)
        await turns()
        assert engine.fanout.active == 0

    async def test_a_trigger_that_ended_fires_no_more(self, engine: Engine, worker: Peer) -> None:
        clock = Clock()
        engine.add_provider(clock)
        worker.bind("clock", "h::a", "good", id="tr1")
        for number in (b"1", b"2"):
            engine.fanout.fire(clock.live["tr1"], "lane", number)
        worker.send({"type": "unregistertrigger", "id": "tr1"})
        worker.answer(worker.received()[0], result=None)
        await turns()
        assert worker.received() == []

    async def test_what_waits_is_bounded_and_the_loss_is_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("iii_skill.engine.fanout.PENDING_LIMIT", 10)
        calls: list[Any] = []
        fanout = Fanout(calls.append)
        for _ in range(5):
            fanout.fire(Trigger("t", "clock", "h::a"), "lane", b"12345")
        assert "dropping" in caplog.text
        seen = 0
        while calls:
            calls.pop().succeed(None)
            seen += 1
            await turns()
        assert seen == 3
        assert "2 events were dropped" in caplog.text
        fanout.close()


class TestNotices:
    async def test_workers_hear_of_workers(self, engine: Engine) -> None:
        listener = Peer(engine)
        listener.register("l::workers")
        listener.bind("engine::workers-available", "l::workers", {})
        other = Peer(engine, name="other")
        other.leave()
        seen = []
        while invocations := listener.received():
            seen.append(invocations[0]["data"])
            listener.answer(invocations[0], result=None)
            await turns()
        assert [event["event"] for event in seen] == [
            "worker_connected",
            "worker_metadata_updated",
            "worker_disconnected",
        ]
        assert {event["worker_id"] for event in seen} == {other.worker.id}

    async def test_workers_hear_of_functions(self, engine: Engine) -> None:
        listener = Peer(engine)
        listener.register("l::functions")
        listener.bind("engine::functions-available", "l::functions", {})
        Peer(engine).register("new::f")
        while not (invocations := listener.received()):
            await asyncio.sleep(0.01)
        event = invocations[0]["data"]
        assert event["event"] == "functions_changed"
        assert {"new::f", "engine::functions::list"} <= {row["function_id"] for row in event["functions"]}

    async def test_log_lines_are_logged_and_fire(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        listener = Peer(engine)
        listener.register("l::log")
        listener.bind("log", "l::log", {})
        listener.call(
            "engine::log::warn", {"message": "low stock", "data": {"n": 1}, "service_name": "shop"}, void=True
        )
        (invocation,) = listener.received()
        assert invocation["data"]["body"] == "low stock"
        assert invocation["data"]["severity_text"] == "WARN"
        assert "[shop] low stock {'n': 1}" in caplog.text


class TestWhatOthersMustRead:
    """What one worker registers never makes the listings unreadable for all."""

    @pytest.fixture
    async def engine(self) -> Engine:
        engine = Engine()
        add_engine_functions(engine)
        engine.add_provider(Clock())
        return engine

    @pytest.mark.parametrize("bad", [{"config": DEEP}, {"config": 1, "metadata": DEEP}])
    async def test_a_trigger_is_refused(self, engine: Engine, bad: dict[str, Any]) -> None:
        worker = Peer(engine)
        worker.received()
        worker.bind("clock", "h::a", bad["config"], metadata=bad.get("metadata"))
        (refusal,) = worker.received()
        assert refusal["type"] == "triggerregistrationresult"
        assert refusal["error"]["code"] == "trigger_registration_failed"
        assert worker.ask("engine::registered-triggers::list", {})["result"] == {"registered_triggers": []}

    async def test_a_durable_trigger_is_refused(self, engine: Engine) -> None:
        request = {"trigger_type": "clock", "function_id": "h::a", "config": DEEP}
        caller = Peer(engine)
        caller.received()
        answer = caller.ask("engine::register_trigger", request)
        assert answer["error"]["code"] == "trigger_registration_failed"

    async def test_schemas_and_metadata_of_functions_and_types_are_left_out(
        self, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker = Peer(engine)
        worker.received()
        worker.register("h::a", metadata={"a": DEEP}, request_format={"type": "object"})
        worker.send({**TYPE, "call_request_format": DEEP})
        info = worker.ask("engine::functions::info", {"function_id": "h::a"})["result"]
        assert (info["request_schema"], "metadata" in info) == ({"type": "object"}, False)
        kind = worker.ask("engine::triggers::info", {"id": "my:type"})["result"]
        assert "request_schema" not in kind
        assert caplog.text.count("is left out") == 2
