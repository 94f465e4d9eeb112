"""Calls between workers: who is called, with what, and what comes back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.peers import Peer, turns

from iii_skill.calls import Call
from iii_skill.engine.engine import Engine
from iii_skill.engine.python_functions import PythonFunctions
from iii_skill.errors import InvocationError
from iii_skill.introspection.functions import add_engine_functions

DEEP = json.loads("[" * 130 + "]" * 130)
"""JSON that not every SDK can read."""


@pytest.fixture
async def engine() -> Engine:
    engine = Engine()
    add_engine_functions(engine)
    return engine


@pytest.fixture
async def caller(engine: Engine) -> Peer:
    return Peer(engine, name="caller")


@pytest.fixture
async def provider(engine: Engine) -> Peer:
    provider = Peer(engine, name="provider")
    provider.register("t::echo")
    return provider


def only(messages: list[dict[str, Any]]) -> dict[str, Any]:
    (message,) = messages
    return message


async def test_a_call_reaches_its_worker_and_the_answer_its_caller(caller: Peer, provider: Peer) -> None:
    invocation_id = caller.call(
        "t::echo",
        {"a": 1, "_caller_worker_id": "spoof"},
        metadata={"m": [1]},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        baggage="k=v,iii.function.id=me",
    )
    invocation = only(provider.received())
    assert invocation == {
        "type": "invokefunction",
        "invocation_id": invocation_id,
        "function_id": "t::echo",
        "data": {"a": 1, "_caller_worker_id": caller.worker.id},
        "metadata": {"m": [1]},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "iii.function.id=t::echo,k=v",
    }
    provider.answer({**invocation, "function_id": "WRONG"}, result={"ok": 1}, traceparent="00-1")
    assert only(caller.received()) == {
        "type": "invocationresult",
        "invocation_id": invocation_id,
        "function_id": "t::echo",
        "result": {"ok": 1},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "k=v,iii.function.id=me",
    }


async def test_a_traceparent_that_cannot_be_read_is_dropped(caller: Peer, provider: Peer) -> None:
    caller.call("t::echo", {}, traceparent="nonsense")
    assert "traceparent" not in only(provider.received())


@pytest.mark.parametrize("data", [5, "x", [1], None, True])
async def test_only_objects_are_stamped(caller: Peer, provider: Peer, data: Any) -> None:
    caller.call("t::echo", data)
    assert only(provider.received())["data"] == data


@pytest.mark.parametrize(
    "data",
    [
        '{"_caller_worker_id":"spoof"}',
        '{"\\u005fcaller_worker_id":"spoof","a":1}',
        "{ }",
        '{"a":{"_caller_worker_id":"inner"}}',
    ],
)
async def test_no_spelling_of_the_stamp_survives(caller: Peer, provider: Peer, data: str) -> None:
    caller.send('{"type":"invokefunction","function_id":"t::echo","data":%s}' % data)
    payload = only(provider.received())["data"]
    assert payload["_caller_worker_id"] == caller.worker.id
    assert payload.get("a", 1) in (1, {"_caller_worker_id": "inner"})


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        ({"result": None}, {}),
        ({}, {}),
        ({"result": False}, {"result": False}),
        ({"result": 1, "error": {"code": "E", "message": "m"}}, {"error": {"code": "E", "message": "m"}}),
        (
            {"error": {"code": "E", "message": "m", "stacktrace": "s", "zzz": 1}},
            {"error": {"code": "E", "message": "m", "stacktrace": "s"}},
        ),
    ],
)
async def test_outcomes_pass_through(
    caller: Peer, provider: Peer, outcome: dict[str, Any], answer: dict[str, Any]
) -> None:
    caller.call("t::echo", {})
    provider.answer(only(provider.received()), **outcome)
    message = only(caller.received())
    assert {key: message[key] for key in message.keys() & {"result", "error"}} == answer


async def test_a_void_call_gets_an_id_and_no_answer(caller: Peer, provider: Peer) -> None:
    caller.call("t::echo", {"a": 1}, void=True)
    invocation = only(provider.received())
    assert invocation["invocation_id"]
    provider.answer(invocation, result=1)
    assert caller.received() == []


async def test_two_calls_with_one_id_are_both_answered(engine: Engine, caller: Peer, provider: Peer) -> None:
    other = Peer(engine, name="other")
    shared_id = caller.call("t::echo", {"n": 1})
    other.send(
        {"type": "invokefunction", "invocation_id": shared_id, "function_id": "t::echo", "data": {"n": 2}}
    )
    first, second = provider.received()
    assert first["invocation_id"] != second["invocation_id"]
    provider.answer(second, result=2)
    provider.answer(first, result=1)
    assert (only(caller.received())["result"], only(other.received())["result"]) == (1, 2)


async def test_only_the_invoked_worker_can_answer(engine: Engine, caller: Peer, provider: Peer) -> None:
    thief = Peer(engine, name="thief")
    caller.call("t::echo", {})
    invocation = only(provider.received())
    thief.answer(invocation, result="stolen")
    caller.answer(invocation, result="stolen")
    assert caller.received() == []
    provider.answer(invocation, result="right")
    provider.answer(invocation, result="late")
    assert only(caller.received())["result"] == "right"


async def test_a_worker_may_call_itself(provider: Peer) -> None:
    invocation_id = provider.call("t::echo", {})
    provider.answer(only(provider.received()), result=7)
    assert only(provider.received())["invocation_id"] == invocation_id


async def test_calls_of_a_worker_that_leaves_fail_at_once(caller: Peer, provider: Peer) -> None:
    caller.call("t::echo", {})
    provider.leave()
    assert only(caller.received())["error"] == {"code": "invocation_stopped", "message": "Invocation stopped"}
    assert caller.ask("t::echo", {})["error"]["code"] == "function_not_found"


async def test_a_caller_that_leaves_is_not_missed(caller: Peer, provider: Peer) -> None:
    caller.call("t::echo", {})
    caller.leave()
    provider.answer(only(provider.received()), result=1)
    assert caller.received() == []


async def test_unregistering_during_a_call_still_answers_it(caller: Peer, provider: Peer) -> None:
    caller.call("t::echo", {})
    provider.send({"type": "unregisterfunction", "id": "t::echo"})
    provider.answer(only(provider.received()), result=1)
    assert only(caller.received())["result"] == 1
    assert caller.ask("t::echo", {})["error"]["code"] == "function_not_found"


async def test_payloads_that_an_sdk_cannot_read_come_back_as_errors(caller: Peer, provider: Peer) -> None:
    assert caller.ask("t::echo", DEEP)["error"]["code"] == "payload_unreadable"
    assert provider.received() == []
    caller.call("t::echo", {})
    provider.answer(only(provider.received()), result=DEEP)
    assert only(caller.received())["error"]["code"] == "payload_unreadable"


async def test_metadata_that_an_sdk_cannot_read_is_not_sent(caller: Peer, provider: Peer) -> None:
    answer = caller.ask("t::echo", {}, metadata=DEEP)
    assert answer["error"]["code"] == "payload_unreadable"
    assert provider.received() == []


async def test_a_time_out_of_the_host_forgets_the_call(engine: Engine, provider: Peer) -> None:
    with pytest.raises(InvocationError, match="timed out"):
        await engine.trigger("t::echo", b"{}", timeout=0.01)
    assert engine.in_flight == 0
    provider.answer(only(provider.received()), result=1)


OLD = {"runtime": "python", "version": "0.10.0"}
BIG = "x" * 1_100_000


async def test_messages_over_1_mib_do_not_reach_an_sdk_that_dies_of_them(
    engine: Engine, provider: Peer
) -> None:
    old = Peer(engine, **OLD)
    old.register("o::f")
    old.call("t::echo", {})
    provider.answer(only(provider.received()), result=BIG)
    error = only(old.received())["error"]
    assert error["code"] == "payload_too_large"
    assert "0.10.0" in error["message"]
    assert provider.ask("o::f", BIG)["error"]["code"] == "payload_too_large"
    assert old.received() == []


@pytest.mark.parametrize(
    "identity",
    [
        {"runtime": "python", "version": "0.24.6"},
        {"runtime": "python", "version": "0.25.0"},
        {"runtime": "node"},
        {},
    ],
)
async def test_newer_sdks_get_large_messages(
    engine: Engine, provider: Peer, identity: dict[str, Any]
) -> None:
    new = Peer(engine, **identity)
    new.call("t::echo", {})
    provider.answer(only(provider.received()), result=BIG)
    assert only(new.received())["result"] == BIG


async def test_a_worker_that_does_not_read_gets_no_further_calls(caller: Peer, provider: Peer) -> None:
    provider.buffered = 100 * 1024 * 1024
    assert caller.ask("t::echo", {})["error"]["code"] == "worker_not_reading"


class TestNamespaces:
    async def test_a_call_resolves_in_the_named_namespace_or_default(
        self, engine: Engine, caller: Peer
    ) -> None:
        orders = Peer(engine, namespace="orders")
        orders.register("o::f")
        assert caller.ask("o::f", {})["error"] == {
            "code": "function_not_found",
            "message": "Function o::f not found in namespace default. "
            "It is registered in namespace(s): orders.",
        }
        caller.call("o::f", {}, namespace="orders")
        assert only(orders.received())["function_id"] == "o::f"
        assert orders.ask("o::f", {})["error"]["code"] == "function_not_found"

    async def test_built_ins_answer_in_every_namespace(self, caller: Peer) -> None:
        assert "functions" in caller.ask("engine::functions::list", {}, namespace="orders")["result"]

    @pytest.mark.parametrize("blank", ["", "  "])
    async def test_a_blank_namespace_is_refused(self, caller: Peer, blank: str) -> None:
        assert caller.ask("t::echo", {}, namespace=blank)["error"]["code"] == "INVALID_NAMESPACE"

    async def test_the_same_id_in_two_namespaces_is_two_functions(self, engine: Engine, caller: Peer) -> None:
        first, second = Peer(engine, namespace="a"), Peer(engine, namespace="b")
        first.register("x::f")
        second.register("x::f")
        caller.call("x::f", {}, namespace="b")
        assert first.received() == []
        assert only(second.received())["function_id"] == "x::f"


class TestRegistration:
    async def test_a_live_owner_keeps_its_function(
        self, engine: Engine, caller: Peer, provider: Peer
    ) -> None:
        caller.register("t::echo")
        assert only(caller.received()) == {
            "type": "registrationrejected",
            "code": "FUNCTION_NAMESPACE_CONFLICT",
            "namespace": "default",
            "function_id": "t::echo",
            "owner_worker_id": provider.worker.id,
        }
        provider.leave()
        caller.register("t::echo")
        assert caller.received() == []

    @pytest.mark.parametrize(
        "function_id", ["state::get", "state::mine", "engine::functions::list", "engine::x"]
    )
    async def test_ids_of_the_host_are_refused(self, engine: Engine, caller: Peer, function_id: str) -> None:
        engine.functions.reserve("state::")
        caller.register(function_id)
        assert only(caller.received())["owner_worker_id"] == ""
        assert engine.functions.lookup(function_id, None) is engine.functions.builtins.get(function_id)

    async def test_the_same_worker_replaces_its_function_wholly(self, engine: Engine, provider: Peer) -> None:
        provider.register("t::echo", description="new")
        function = engine.functions.lookup("t::echo", None)
        assert function is not None
        assert function.description == "new"

    async def test_only_the_owner_unregisters(self, engine: Engine, caller: Peer, provider: Peer) -> None:
        caller.send({"type": "unregisterfunction", "id": "t::echo"})
        assert engine.functions.lookup("t::echo", None) is not None

    async def test_a_function_behind_a_url_says_that_it_is_not_called(self, caller: Peer) -> None:
        caller.register("u::f", invocation={"url": "https://example.com"})
        error = caller.ask("u::f", {})["error"]
        assert error["code"] == "http_invocation_unsupported"
        assert "iii-http-functions" in error["message"]

    async def test_reattach_takes_the_old_connection_over(
        self, engine: Engine, caller: Peer, provider: Peer
    ) -> None:
        caller.call("t::echo", {})
        again = Peer(engine, identify=False)
        again.send(
            {
                "type": "reattach",
                "previous_worker_id": provider.greeting["worker_id"],
                "reattach_token": provider.greeting["reattach_token"],
            }
        )
        assert only(caller.received())["error"]["code"] == "invocation_stopped"
        assert provider.closed is not None
        again.register("t::echo")
        again.release()
        assert again.received() == []
        caller.call("t::echo", {})
        assert only(again.received())["function_id"] == "t::echo"

    async def test_reattach_with_a_wrong_token_is_ignored(self, engine: Engine, provider: Peer) -> None:
        other = Peer(engine, identify=False)
        for token in ("wrong", None):
            other.send(
                {"type": "reattach", "previous_worker_id": provider.worker.id, "reattach_token": token}
            )
        assert provider.closed is None
        assert provider.worker.live


class TestNotServed:
    async def test_enqueue_names_what_was_asked_and_who_would_serve_it(
        self, caller: Peer, provider: Peer
    ) -> None:
        error = caller.ask("t::echo", {}, action={"type": "enqueue", "queue": "jobs"})["error"]
        assert error["code"] == "enqueue_error"
        assert "t::echo" in error["message"]
        assert "iii-queue" in error["message"]
        assert provider.received() == []

    async def test_enqueue_goes_to_a_worker_that_provides_queues(self, engine: Engine, caller: Peer) -> None:
        queues = Peer(engine, name="queue")
        queues.register("engine::queue::enqueue")
        caller.call("t::job", {"a": 1}, action={"type": "enqueue", "queue": "jobs"})
        job = only(queues.received())
        assert (job["data"]["queue"], job["data"]["function_id"], job["data"]["data"]) == (
            "jobs",
            "t::job",
            {"a": 1},
        )
        queues.answer(job, result=None)
        assert only(caller.received())["result"] == {"messageReceiptId": job["data"]["messageReceiptId"]}

    @pytest.mark.parametrize(
        ("function_id", "server"),
        [
            ("stream::set", "iii-stream"),
            ("iii::durable::publish", "iii-queue"),
            ("queue::define", "iii-queue"),
            ("publish", "iii-pubsub"),
            ("cron::on-tick", "iii-cron"),
            ("state::get", "iii-skill attach"),
        ],
    )
    async def test_functions_of_other_workers_are_named(
        self, caller: Peer, function_id: str, server: str
    ) -> None:
        error = caller.ask(function_id, {})["error"]
        assert error["code"] == "function_not_found"
        assert server in error["message"]

    @pytest.mark.parametrize(
        "function_id", ["cron::daily-report", "stream::mine", "queue::push", "publish::x"]
    )
    async def test_a_function_of_the_users_own_names_no_worker_of_the_engine(
        self, caller: Peer, function_id: str
    ) -> None:
        assert "iii-" not in caller.ask(function_id, {})["error"]["message"]

    async def test_a_void_call_of_nothing_is_one_line_in_the_log(
        self, caller: Peer, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(5):
            caller.call("t::gone", {}, action={"type": "void"})
            caller.call("t::lost\nFORGED", {}, action={"type": "void"})
        assert caplog.text.count("called a function that is not there") == 2
        assert "\nFORGED" not in caplog.text

    async def test_a_job_that_is_not_stored_is_in_the_log_in_full(
        self, engine: Engine, caller: Peer, caplog: pytest.LogCaptureFixture
    ) -> None:
        queues = Peer(engine, name="queue")
        queues.register("engine::queue::enqueue")
        caller.call("t::job", {}, action={"type": "enqueue", "queue": "jobs"})
        queues.answer(only(queues.received()), error={"code": "QFULL", "message": "no room"})
        assert only(caller.received())["error"]["message"] == "QFULL: no room"
        assert "no room" in caplog.text


class TestInProcess:
    async def test_trigger_gives_the_result_or_raises_the_error(self, engine: Engine, provider: Peer) -> None:
        waiting = asyncio.create_task(engine.trigger("t::echo", b'{"a":1}'))
        await turns()
        provider.answer(only(provider.received()), result={"b": 2})
        assert json.loads(await waiting or b"") == {"b": 2}
        waiting = asyncio.create_task(engine.trigger("t::echo", b"{}"))
        await turns()
        provider.answer(only(provider.received()), error={"code": "E", "message": "m", "stacktrace": "s"})
        with pytest.raises(InvocationError) as caught:
            await waiting
        assert (caught.value.code, caught.value.message, caught.value.stacktrace) == ("E", "m", "s")

    async def test_a_time_out_says_that_the_outcome_is_unknown(self, engine: Engine, provider: Peer) -> None:
        with pytest.raises(InvocationError, match="unknown") as caught:
            await engine.trigger("t::echo", b"{}", timeout=0.01)
        assert caught.value.code == "TIMEOUT"
        provider.answer(only(provider.received()), result=1)

    async def test_python_callables_answer_workers(self, engine: Engine, caller: Peer) -> None:
        async def slow(payload: Any) -> Any:
            await asyncio.sleep(0)
            return {"got": payload["n"]}

        def failing(payload: Any) -> Any:
            raise KeyError("name")

        functions = PythonFunctions()
        engine.add_function("py::slow", functions.handler(slow))
        engine.add_function("py::failing", functions.handler(failing))
        engine.add_function("py::nan", functions.handler(lambda _payload: float("nan")))
        big = 2**80
        for function_id, data in (("py::slow", {"n": big}), ("py::failing", {}), ("py::nan", {})):
            caller.call(function_id, data)
            await turns(5)
        slow_answer, failing_answer, nan_answer = caller.received()
        assert slow_answer["result"] == {"got": big}
        assert failing_answer["error"]["code"] == "invocation_failed"
        assert failing_answer["error"]["message"] == "'name'"
        assert "KeyError" in failing_answer["error"]["stacktrace"]
        assert nan_answer["error"]["code"] == "deserialization_error"
        assert functions.running == 0

    @pytest.mark.parametrize("begun", [False, True])
    async def test_a_python_callable_that_is_cancelled_leaves_no_caller_waiting(
        self, engine: Engine, caller: Peer, begun: bool
    ) -> None:
        entered = []

        async def endless(_payload: Any) -> Any:
            entered.append(1)
            await asyncio.get_running_loop().create_future()

        functions = PythonFunctions()
        engine.add_function("py::endless", functions.handler(endless))
        caller.call("py::endless", {})
        others = asyncio.all_tasks()
        while not (tasks := asyncio.all_tasks() - others):
            await asyncio.sleep(0)
        if begun:
            await turns()
        assert entered == [1] * begun
        for task in tasks:
            task.cancel()
        await turns()
        error = only(caller.received())["error"]
        assert error["code"] == "invocation_failed"
        assert error["message"] == "py::endless was cancelled before it answered."
        assert functions.running == 0


async def test_a_function_of_the_host_that_raises_leaves_no_caller_waiting(
    engine: Engine, caller: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(call: Call) -> None:
        raise ValueError("a mistake of mine")

    engine.add_function("t::broken", broken)
    caller.call("t::broken", {})
    error = only(caller.received())["error"]
    assert (error["code"], error["message"]) == (
        "internal_error",
        "t::broken failed inside the host: a mistake of mine",
    )
    assert "function t::broken failed" in caplog.text
    with pytest.raises(InvocationError) as caught:
        await engine.trigger("t::broken", b"{}", namespace="default")
    assert caught.value.code == "internal_error"
