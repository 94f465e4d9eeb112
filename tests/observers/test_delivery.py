"""Which observers are called, with what, how often and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.observing import OLD, V1, Observing, Party, item, observing, turns

from iii_skill.engine.engine import Engine


class Trio:
    """A host of `h::f`, an owner and a target `t::g` that is active."""

    def __init__(self, scene: Observing, *, host: list[str] | None = None, **fields: Any) -> None:
        self.scene = scene
        self.host = scene.party("host", **({} if host is None else {"features": host}))
        self.owner, self.target, self.caller = (
            scene.party("owner"), scene.party("target"), scene.party("caller"),
        )  # fmt: skip
        self.host.register("h::f")
        self.target.register("t::g")
        self.id = self.observe(**fields)

    def observe(self, **fields: Any) -> str:
        observer_id = self.owner.observe("h::f", "t::g", **fields)
        self.host.ack()
        assert self.owner.states()[-1] == ("active", None)
        return observer_id

    def call(self, payload: Any = None, *, answer: Any = None, **fields: Any) -> dict[str, Any]:
        """A call of the source through the host, answered; gives what its host got."""
        result = {name: fields.pop(name) for name in ("matched", "delivered") if name in fields}
        self.caller.call("h::f", {} if payload is None else payload, **fields)
        (invocation,) = self.host.calls()
        self.host.answer(invocation, **({"result": {"ok": 1}} if answer is None else answer), **result)
        return invocation

    def delivered(self) -> list[Any]:
        """The payloads that the target got."""
        return [message["data"] for message in self.target.calls()]


class TestTheActivation:
    async def test_the_envelope_and_what_goes_with_it(self, scene: Observing) -> None:
        trio = Trio(scene, metadata={"m": 1})
        asked = trio.call({"n": 1}, traceparent=f"00-{'1' * 32}-{'2' * 16}-01", baggage="k=v")
        (message,) = trio.target.calls()
        envelope = message["data"]
        assert envelope.pop("started_at_ms") > 1_700_000_000_000
        assert envelope.pop("duration_ms") >= 0
        assert message["activation"] == {"observer_id": trio.id, "activation_id": envelope["activation_id"]}
        worker = {"worker_id": trio.caller.worker.id, "worker_name": "caller"}
        assert envelope == {
            "observer_id": trio.id,
            "activation_id": envelope["activation_id"],
            "function_id": "h::f",
            "namespace": "default",
            "invocation_id": asked["invocation_id"],
            "status": "success",
            "input": {"n": 1},
            "output": {"ok": 1},
            "caller": worker,
        }
        assert message["metadata"] == {"m": 1}
        assert message["observe_depth"] == 1
        assert message["caller"] == {
            "worker_name": "iii-engine",
            "function_id": "h::f",
            "invocation_id": asked["invocation_id"],
        }
        assert message["traceparent"].startswith("00-1111")
        assert message["invocation_id"] != asked["invocation_id"]
        assert asked["caller"] == worker

    async def test_the_caller_is_answered_before_the_target_is_called(self, scene: Observing) -> None:
        host = scene.party("both")
        host.register("h::f")
        host.register("t::g")
        host.observe("h::f", "t::g")
        host.ack()
        host.states()
        host.call("h::f", {})
        host.answer(host.calls()[0], result=1)
        kinds = [message["type"] for message in host.received()]
        assert kinds == ["invocationresult", "invokefunction"]

    async def test_the_input_never_holds_the_stamp(self, scene: Observing) -> None:
        trio = Trio(scene)
        invocation = trio.call({"n": 1})
        assert invocation["data"]["_caller_worker_id"] == trio.caller.worker.id
        (envelope,) = trio.delivered()
        assert envelope["input"] == {"n": 1}

    @pytest.mark.parametrize(
        ("capture", "parts"),
        [
            ([], set()),
            (["input"], {"input"}),
            (["metadata", "caller", "output"], {"metadata", "caller", "output"}),
            (["error"], set()),
            (["input", "input"], {"input"}),
        ],
    )
    async def test_only_what_is_captured_is_sent(
        self, scene: Observing, capture: list[str], parts: set[str]
    ) -> None:
        trio = Trio(scene, capture=capture)
        trio.call({"n": 1}, metadata={"m": 1})
        (envelope,) = trio.delivered()
        assert set(envelope) & {"input", "output", "error", "caller", "metadata"} == parts

    @pytest.mark.parametrize(
        ("deliver", "answer", "payload"),
        [
            ("input", {"result": 2}, {"n": 1}),
            ("output", {"result": 2}, 2),
            ("output", {}, None),
            ("output", {"error": {"code": "E", "message": "m"}}, None),
            ("input", {"error": {"code": "E", "message": "m"}}, {"n": 1}),
        ],
    )
    async def test_bare_parts_are_delivered(
        self, scene: Observing, deliver: str, answer: Any, payload: Any
    ) -> None:
        trio = Trio(scene, deliver=deliver, on="complete")
        trio.call({"n": 1}, answer=answer)
        assert trio.delivered() == [payload]

    async def test_a_function_that_returned_nothing_has_a_null_output(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.call(answer={})
        (envelope,) = trio.delivered()
        assert envelope["output"] is None

    async def test_an_error_of_the_target_is_logged_and_never_repeated(
        self, scene: Observing, caplog: pytest.LogCaptureFixture
    ) -> None:
        trio = Trio(scene)
        trio.call()
        trio.target.answer(trio.target.calls()[0], error={"code": "E", "message": "broken"})
        await turns()
        assert trio.delivered() == []
        assert "broken" in caplog.text


class TestWhichCalls:
    @pytest.mark.parametrize(
        ("on", "statuses"),
        [("success", ["success"]), ("error", ["error"]), ("complete", ["success", "error"])],
    )
    async def test_on_chooses_outcomes(self, scene: Observing, on: str, statuses: list[str]) -> None:
        trio = Trio(scene, on=on, capture=["output", "error"])
        trio.call()
        trio.call(answer={"error": {"code": "E", "message": "m", "stacktrace": "here"}})
        envelopes = trio.delivered()
        assert [envelope["status"] for envelope in envelopes] == statuses
        for envelope in envelopes:
            failed = {"code": "E", "message": "m", "stacktrace": "here"}
            assert envelope.get("error") == (failed if envelope["status"] == "error" else None)

    @pytest.mark.parametrize(
        ("filters", "wanted"),
        [
            ({"input.n": {"$gt": 1}}, [2, 3]),
            ({"input.n": {"$eq": 2}}, [2]),
            ({"output.ok": {"$eq": 1}}, [1, 2, 3]),
            ({"output.missing": {"$exists": True}}, []),
            ({"caller.worker_name": {"$eq": "caller"}}, [1, 2, 3]),
            ({"metadata.m": {"$exists": True}}, []),
            ({"error": {"$exists": False}}, [1, 2, 3]),
        ],
    )
    async def test_filters_look_at_all_parts(self, scene: Observing, filters: Any, wanted: list[int]) -> None:
        trio = Trio(scene, filters=filters)
        for number in (1, 2, 3):
            trio.call({"n": number})
        assert [envelope["input"]["n"] for envelope in trio.delivered()] == wanted

    async def test_void_calls_of_old_workers_of_old_hosts_count(self, scene: Observing) -> None:
        trio = Trio(scene, host=OLD)
        caller = scene.party("ancient", features=OLD)
        caller.call("h::f", {"n": 1}, void=True)
        (invocation,) = trio.host.calls()
        assert not {"caller", "observe_depth", "activation"} & set(invocation)
        trio.host.answer(invocation, result=2)
        (envelope,) = trio.delivered()
        assert envelope["caller"] == {"worker_id": caller.worker.id, "worker_name": "ancient"}
        assert envelope["invocation_id"]

    async def test_calls_of_the_host_and_of_triggers_count(self, scene: Observing) -> None:
        trio = Trio(scene)
        task = asyncio.ensure_future(scene.engine.trigger("h::f", b'{"n":1}'))
        await turns()
        trio.host.answer(trio.host.calls()[0], result=1)
        await task
        listener = scene.party("listener")
        listener.bind("engine::workers-available", "h::f", {})
        scene.party("newcomer")
        trio.host.answer(trio.host.calls()[0], result=1)
        assert [envelope["input"].get("event", 1) for envelope in trio.delivered()] == [1, "worker_connected"]

    async def test_functions_of_the_host_are_observed_in_every_namespace(self, scene: Observing) -> None:
        owner, target = scene.party("owner", namespace="orders"), scene.party("target")
        target.register("t::g")
        owner.observe("engine::workers::list", "t::g", source_namespace="orders", capture=["input"])
        assert owner.states() == [("active", None)]
        scene.party("asker").ask("engine::workers::list", {"search": "x"})
        (message,) = target.calls()
        assert (message["data"]["input"], message["data"]["namespace"]) == ({"search": "x"}, "default")

    async def test_a_call_that_fails_with_its_host_is_an_error(self, scene: Observing) -> None:
        trio = Trio(scene, on="error")
        trio.caller.call("h::f", {})
        trio.host.leave()
        (envelope,) = trio.delivered()
        assert envelope["status"] == "error"

    async def test_namespaces_keep_functions_of_one_name_apart(self, scene: Observing) -> None:
        trio = Trio(scene)
        other = scene.party("other", namespace="elsewhere")
        other.register("h::f")
        trio.caller.call("h::f", {}, namespace="elsewhere")
        other.answer(other.calls()[0], result=1)
        assert trio.delivered() == []

    async def test_an_observer_that_began_during_the_call_hears_of_it(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.caller.call("h::f", {})
        (invocation,) = trio.host.calls()
        second = trio.observe()
        trio.owner.unobserve(trio.id)
        trio.host.answer(invocation, result=1)
        assert [envelope["observer_id"] for envelope in trio.delivered()] == [second]


class TestWhatTheHostChooses:
    async def test_matched_names_those_who_are_called(self, scene: Observing) -> None:
        trio = Trio(scene)
        second = trio.observe(filters={"input.n": {"$eq": 1}})
        third = trio.observe(on="error")
        trio.call({"n": 1}, matched=[])
        assert trio.delivered() == []
        trio.call({"n": 1}, matched=[second, "unknown", third])
        assert [envelope["observer_id"] for envelope in trio.delivered()] == [second]
        trio.call({"n": 2}, matched=[second])
        assert trio.delivered() == [], "the filter counts all the same"

    async def test_delivered_outweighs_matched(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.call(matched=[trio.id], delivered=True)
        assert trio.delivered() == []

    async def test_both_are_stripped_from_the_answer(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.call(matched=[], delivered=True)
        (answer,) = trio.caller.take("invocationresult")
        assert set(answer) == {"type", "invocation_id", "function_id", "result"}

    async def test_a_host_that_delivers_itself_reports_routed_calls_too(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.register("h::f", observe={"delivery": "owner"})
        trio.host.ack()
        trio.call({"n": 1})
        assert trio.delivered() == []
        trio.host.report("h::f", [trio.id], input={"emitted": 1}, output=None)
        (envelope,) = trio.delivered()
        assert envelope["input"] == {"emitted": 1}


class TestReports:
    async def test_a_local_call_looks_as_a_routed_one(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.report(
            "h::f",
            [trio.id],
            input={"n": 1},
            output={"ok": 1},
            caller={"function_id": "h::x", "invocation_id": "i"},
        )
        (envelope,) = trio.delivered()
        assert envelope["caller"] == {
            "function_id": "h::x",
            "invocation_id": "i",
            "worker_id": trio.host.worker.id,
            "worker_name": "host",
        }
        assert (envelope["input"], envelope["output"]) == ({"n": 1}, {"ok": 1})

    async def test_the_reporting_worker_is_the_caller_whatever_it_says(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.report("h::f", [trio.id], input=1)
        trio.host.report("h::f", [trio.id], input=1, caller={"worker_id": "spoof", "worker_name": "spoof"})
        callers = [envelope["caller"] for envelope in trio.delivered()]
        assert callers == [{"worker_id": trio.host.worker.id, "worker_name": "host"}] * 2

    async def test_an_output_that_is_the_input_is_sent_once(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.report("h::f", [trio.id], input={"n": 1}, output_is_input=True)
        (envelope,) = trio.delivered()
        assert envelope["output"] == {"n": 1}

    async def test_parts_are_cut_for_each_observer(self, scene: Observing) -> None:
        trio = Trio(scene, capture=["output"])
        other = trio.observe(capture=["input"])
        trio.host.report("h::f", [trio.id, other, trio.id], input=1, output=2)
        first, second = trio.delivered()
        assert (first["output"], "input" in first) == (2, False)
        assert (second["input"], "output" in second) == (1, False)

    async def test_one_bad_item_does_not_cost_the_others(
        self, scene: Observing, caplog: pytest.LogCaptureFixture
    ) -> None:
        trio = Trio(scene)
        good = item("h::f", [trio.id], input=1)
        bad = [{}, 5, {**good, "status": "maybe"}, {**good, "matched": "all"}]
        trio.host.send({"type": "invocationsobserved", "items": [*bad, good]})
        assert len(trio.delivered()) == 1
        assert "cannot be read" in caplog.text

    async def test_only_the_host_of_the_source_reports_and_only_for_active_observers(
        self, scene: Observing
    ) -> None:
        trio = Trio(scene)
        trio.caller.report("h::f", [trio.id], input=1)
        trio.host.report("h::other", [trio.id], input=1)
        trio.host.report("h::f", ["unknown"], input=1)
        trio.owner.unobserve(trio.id)
        trio.host.report("h::f", [trio.id], input=1)
        assert trio.delivered() == []

    async def test_an_error_is_passed_on(self, scene: Observing) -> None:
        trio = Trio(scene, on="complete", capture=["error", "output"])
        error = {"code": "E", "message": "m"}
        trio.host.report("h::f", [trio.id], status="error", error=error)
        (envelope,) = trio.delivered()
        assert (envelope["status"], envelope["error"], "output" in envelope) == ("error", error, False)

    async def test_what_not_every_sdk_can_read_is_not_passed_on(
        self, scene: Observing, caplog: pytest.LogCaptureFixture
    ) -> None:
        trio = Trio(scene)
        deep: Any = 1
        for _ in range(126):
            deep = [deep]
        trio.host.report("h::f", [trio.id], input=deep)
        assert trio.delivered() == []
        assert trio.owner.shown(trio.id)["dropped"] == {"UNREADABLE": 1}


class TestLimits:
    async def test_one_in_flight_is_strictly_one_after_another_and_none_is_lost(
        self, scene: Observing
    ) -> None:
        trio = Trio(scene, max_in_flight=1, deliver="input")
        for number in range(20):
            trio.host.report("h::f", [trio.id], input=number)
        assert trio.owner.shown(trio.id)["queued"] == 19
        seen = []
        while messages := trio.target.calls():
            (message,) = messages
            seen.append(message["data"])
            trio.target.answer(message, result=None)
            await turns()
        assert seen == list(range(20))

    async def test_many_are_out_at_once_and_the_rest_waits_in_order(self, scene: Observing) -> None:
        trio = Trio(scene, deliver="input")
        for number in range(500):
            trio.host.report("h::f", [trio.id], input=number)
        out = trio.target.calls()
        assert [message["data"] for message in out] == list(range(64))
        seen = 0
        while out:
            seen += len(out)
            for message in out:
                trio.target.answer(message, result=None)
            await turns()
            out = trio.target.calls()
        assert seen == 500
        assert not scene.engine.fanout.busy

    async def test_beyond_the_queue_calls_are_dropped_and_counted(
        self, scene: Observing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("iii_skill.engine.fanout.QUEUE_LIMIT", 3)
        trio = Trio(scene, max_in_flight=1)
        for number in range(6):
            trio.host.report("h::f", [trio.id], input=number)
        shown = trio.owner.shown(trio.id)
        assert (shown["in_flight"], shown["queued"], shown["dropped"]) == (1, 3, {"OVERFLOW": 2})
        assert shown["fires"] == 4

    async def test_max_fires_ends_it_and_what_waits_is_still_delivered(self, scene: Observing) -> None:
        trio = Trio(scene, max_fires=3, max_in_flight=1, deliver="input")
        for number in range(5):
            trio.host.report("h::f", [trio.id], input=number)
        assert trio.owner.states() == [("disposed", "MAX_FIRES")]
        # Its id is free, and a new observer of it has nothing to do with what waits.
        trio.observe(id=trio.id, deliver="output")
        seen = []
        while messages := trio.target.calls():
            seen += [message["data"] for message in messages]
            for message in messages:
                trio.target.answer(message, result=None)
            await turns()
        assert seen == [0, 1, 2]
        assert [m["id"] for m in trio.host.take("observerremoved")] == [trio.id]

    async def test_what_waits_is_dropped_when_it_is_ended(self, scene: Observing) -> None:
        trio = Trio(scene, max_in_flight=1)
        for number in range(3):
            trio.host.report("h::f", [trio.id], input=number)
        (first,) = trio.target.calls()
        trio.target.answer(first, result=None)
        trio.owner.unobserve(trio.id)
        await turns()
        assert trio.delivered() == []

    async def test_a_target_that_never_answers_is_left_behind(self) -> None:
        async with observing(handler_timeout_s=0.02) as scene:
            trio = Trio(scene, max_in_flight=1, deliver="input")
            for number in range(2):
                trio.host.report("h::f", [trio.id], input=number)
            seen: list[Any] = []
            await scene.until(lambda: seen.extend(trio.delivered()) or len(seen) == 2)
            assert seen == [0, 1]

    async def test_a_payload_too_large_for_the_target_is_counted(self, scene: Observing) -> None:
        trio = Trio(scene)
        small = Party(scene.engine, "small", features=V1, runtime="python", version="0.24.0")
        small.register("s::g")
        observer_id = trio.owner.observe("h::f", "s::g")
        trio.host.ack()
        trio.host.report("h::f", [observer_id], input="x" * 600_000, output="x" * 600_000)
        assert small.calls() == []
        assert trio.owner.shown(observer_id)["dropped"] == {"TOO_LARGE": 1}


class TestLoops:
    async def test_a_loop_ends_after_eight_rounds(
        self, scene: Observing, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker = scene.party("loop")
        worker.register("l::f")
        worker.register("l::g")
        observer_id = worker.observe("l::f", "l::g")
        worker.ack()
        worker.states()
        worker.call("l::f", {})
        depths = []
        while messages := worker.calls():
            for message in messages:
                depth = message.get("observe_depth", 0)
                if message["function_id"] == "l::g":
                    depths.append(depth)
                    # Out of the handler, so the SDK says how deep it is.
                    worker.call("l::f", {}, observe_depth=depth)
                worker.answer(message, result=None)
            await turns()
        assert depths == list(range(1, 9))
        assert worker.shown(observer_id)["dropped"] == {"LOOP_GUARD": 1}
        assert "leads back to itself" in caplog.text

    async def test_two_observers_of_functions_of_the_host_end_too(self, scene: Observing) -> None:
        for name in ("a", "b"):
            scene.engine.add_function(f"x::{name}", lambda call: call.succeed(b"1"))
        owner = scene.party("owner")
        first = owner.observe("x::a", "x::b")
        second = owner.observe("x::b", "x::a")
        assert owner.states() == [("active", None)] * 2
        owner.call("x::a", {})
        await turns(30)
        fires = [owner.shown(observer_id)["fires"] for observer_id in (first, second)]
        assert fires == [4, 4]
        assert owner.shown(first)["dropped"] == {"LOOP_GUARD": 1}


class TestThroughAnObserver:
    def through(self, host: Party, observer_id: str, function_id: str = "t::g", **fields: Any) -> str:
        return host.call(function_id, {"given": 1}, activation={"observer_id": observer_id}, **fields)

    def failure(self, party: Party) -> str:
        (answer,) = party.take("invocationresult")
        return str(answer["error"]["code"])

    async def test_the_target_is_called_as_it_is_given_and_answers_the_host(self, scene: Observing) -> None:
        trio = Trio(scene, metadata={"m": 1}, max_fires=2)
        self.through(
            trio.host, trio.id, caller={"function_id": "h::f", "invocation_id": "i"}, metadata={"no": 1}
        )
        (message,) = trio.target.calls()
        assert message["data"] == {"given": 1}
        assert message["metadata"] == {"m": 1}
        assert (message["observe_depth"], message["activation"]["observer_id"]) == (1, trio.id)
        assert message["caller"]["worker_name"] == "host"
        assert message["caller"]["function_id"] == "h::f"
        trio.target.answer(message, result={"back": 1})
        (answer,) = trio.host.take("invocationresult")
        assert answer["result"] == {"back": 1}
        assert trio.owner.shown(trio.id)["fires"] == 1
        self.through(trio.host, trio.id)
        assert trio.owner.states() == [("disposed", "MAX_FIRES")]
        assert len(trio.target.calls()) == 1

    async def test_a_target_in_another_namespace_is_found(self, scene: Observing) -> None:
        trio = Trio(scene)
        far = scene.party("far", namespace="far")
        far.register("f::g")
        observer_id = trio.owner.observe("h::f", "f::g", target_namespace="far")
        trio.host.ack()
        self.through(trio.host, observer_id, "f::g")
        assert len(far.calls()) == 1

    async def test_what_is_not_allowed_is_answered_with_its_code(self, scene: Observing) -> None:
        trio = Trio(scene, max_in_flight=1)
        self.through(trio.host, "unknown")
        assert self.failure(trio.host) == "OBSERVER_NOT_FOUND"
        self.through(trio.caller, trio.id)
        assert self.failure(trio.caller) == "NOT_FUNCTION_OWNER"
        self.through(trio.host, trio.id, "t::other")
        assert self.failure(trio.host) == "TARGET_MISMATCH"
        self.through(trio.host, trio.id, observe_depth=8)
        assert self.failure(trio.host) == "LOOP_GUARD"
        self.through(trio.host, trio.id)
        self.through(trio.host, trio.id)
        assert self.failure(trio.host) == "OVERFLOW"
        (out,) = trio.target.calls()
        trio.target.answer(out, result=None)
        trio.host.take("invocationresult")
        trio.owner.leave()
        self.through(trio.host, trio.id)
        assert self.failure(trio.host) == "OBSERVER_NOT_ACTIVE"

    async def test_a_slot_is_free_again_when_the_target_is_gone(self, scene: Observing) -> None:
        trio = Trio(scene, max_in_flight=1)
        self.through(trio.host, trio.id)
        trio.target.leave()
        assert self.failure(trio.host) == "invocation_stopped"
        assert not scene.engine.fanout.busy

    async def test_an_engine_without_observers_says_so(self, scene: Observing) -> None:
        bare = Party(Engine(), features=OLD, identify=False)
        bare.release()
        bare.received()
        self.through(bare, "x")
        assert self.failure(bare) == "OBSERVER_NOT_FOUND"


class TestPrivateFunctions:
    async def test_only_its_worker_calls_it_and_everybody_observes_it(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.register("h::p", private=True)
        trio.caller.call("h::p", {})
        (answer,) = trio.caller.take("invocationresult")
        assert answer["error"]["code"] == "FORBIDDEN"
        trio.owner.observe("h::p", "t::g")
        trio.host.ack()
        trio.host.call("h::p", {"n": 1})
        (invocation,) = trio.host.calls()
        trio.host.answer(invocation, result=1)
        assert [envelope["input"] for envelope in trio.delivered()] == [{"n": 1}]

    async def test_triggers_and_the_host_are_others(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.host.register("h::p", private=True)
        trio.caller.bind("engine::workers-available", "h::p", {})
        scene.party("newcomer")
        assert trio.host.calls() == []

    async def test_a_private_target_is_called_for_its_observer(self, scene: Observing) -> None:
        trio = Trio(scene)
        trio.target.register("t::p", private=True)
        trio.owner.observe("h::f", "t::p")
        trio.host.ack()
        trio.call()
        assert [message["function_id"] for message in trio.target.calls()] == ["t::g", "t::p"]


class TestManyObservers:
    async def test_ten_thousand_are_kept_and_each_call_reaches_its_own(self, scene: Observing) -> None:
        trio = Trio(scene, filters={"input.k": {"$eq": "none"}})
        for number in range(9_999):
            trio.owner.observe("h::f", "t::g", id=f"o{number}", filters={"input.k": {"$eq": number}})
        assert set(trio.owner.states()) == {("pending", None)}
        assert len(trio.host.ack()) == 9_999
        trio.call({"k": 4711})
        assert [envelope["observer_id"] for envelope in trio.delivered()] == ["o4711"]
        trio.owner.leave()
        again = scene.party("owner")
        again.observe("h::f", "t::g", id="o4711", filters={"input.k": {"$eq": 4711}})
        assert again.states() == [("active", None)]
