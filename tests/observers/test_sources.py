"""Sources inside the host: changes of state, of configuration and of the engine; and `Host.observe`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.jobs import until
from support.observing import Party

from iii_skill import Host, open_host
from iii_skill.config import Config, StateConfig
from iii_skill.errors import CallerError, InvocationError


class Scene:
    """A host in this process, and a target that keeps what it gets."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.got: list[Any] = []
        host.register_function("t::g", self.got.append)

    async def set(self, key: str, value: Any, scope: str = "s") -> None:
        await self.host.trigger("state::set", {"scope": scope, "key": key, "value": value})

    async def until(self, count: int) -> list[Any]:
        """Wait until the target got so many payloads."""
        async with asyncio.timeout(10):
            while len(self.got) < count:
                await asyncio.sleep(0.001)
        return self.got


@pytest.fixture(params=["memory", "file"])
async def scene(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[Scene]:
    config = {"data_dir": str(tmp_path / "state")} if request.param == "file" else {}
    async with open_host(adapter=request.param, adapter_config=config) as host:
        yield Scene(host)


class TestState:
    async def test_every_write_is_an_event_as_a_trigger_gets_it(self, scene: Scene) -> None:
        triggered: list[Any] = []
        scene.host.register_function("t::old", triggered.append)
        scene.host.register_trigger("state", "t::old", {"scope": "s"})
        observer = await scene.host.observe(
            "state::on-changed", "t::g", filters={"input.scope": {"$eq": "s"}}, deliver="input"
        )
        assert (observer.state, observer.warnings) == ("active", [])
        await scene.set("k", {"n": 1})
        await scene.set("k", 2)
        await scene.set("k", 3, scope="other")
        await scene.host.trigger("state::delete", {"scope": "s", "key": "k"})
        await scene.host.trigger("state::delete", {"scope": "s", "key": "absent"})
        await scene.until(4)
        await until(lambda: len(triggered) >= 4)
        # In order per key, and no key waits for another one.
        observed, by_trigger = (sorted(got, key=lambda event: event["key"]) for got in (scene.got, triggered))
        assert [(event["key"], event["event_type"]) for event in observed] == [
            ("absent", "state:deleted"),
            ("k", "state:created"), ("k", "state:updated"), ("k", "state:deleted"),
        ]  # fmt: skip
        assert observed[1] == {
            "type": "state",
            "event_type": "state:created",
            "scope": "s",
            "key": "k",
            "old_value": None,
            "new_value": {"n": 1},
        }
        assert by_trigger == observed

    async def test_filters_look_into_values_and_the_envelope_says_who(self, scene: Scene) -> None:
        await scene.host.observe("state::on-changed", "t::g", filters={"input.new_value.n": {"$gte": 2}})
        for number in range(4):
            await scene.set("k", {"n": number})
        await scene.until(2)
        first = scene.got[0]
        assert first["input"]["new_value"] == {"n": 2}
        assert first["output"] == first["input"]
        assert first["caller"] == {"worker_name": "iii-state"}
        assert (first["function_id"], first["status"]) == ("state::on-changed", "success")

    async def test_events_of_a_key_keep_their_order_and_keys_do_not_wait_for_each_other(
        self, scene: Scene
    ) -> None:
        gate = asyncio.Event()
        seen: list[tuple[str, int]] = []

        async def slow(event: Any) -> None:
            if event["key"] == "slow":
                await gate.wait()
            seen.append((event["key"], event["new_value"]))

        scene.host.register_function("t::slow", slow)
        await scene.host.observe("state::on-changed", "t::slow", deliver="input")
        for number in range(5):
            await scene.set("slow", number)
            await scene.set("quick", number)
        async with asyncio.timeout(10):
            while len(seen) < 5:
                await asyncio.sleep(0.001)
        assert seen == [("quick", number) for number in range(5)]
        gate.set()
        async with asyncio.timeout(10):
            while len(seen) < 10:
                await asyncio.sleep(0.001)
        assert seen[5:] == [("slow", number) for number in range(5)]

    async def test_a_kept_value_is_no_event_and_a_comparison_that_holds_is(self, scene: Scene) -> None:
        await scene.set("k", 1)
        await scene.host.observe("state::on-changed", "t::g", deliver="input")
        swap = {"scope": "s", "key": "k", "expected": 5, "value": 6}
        await scene.host.trigger("state::compare-and-set", swap)
        await scene.host.trigger("state::compare-and-set", {**swap, "expected": 1})
        assert [event["new_value"] for event in await scene.until(1)] == [6]

    async def test_it_takes_no_args_and_nobody_calls_it(self, scene: Scene) -> None:
        with pytest.raises(CallerError) as refused:
            await scene.host.observe("state::on-changed", "t::g", args={"scope": "s"})
        assert refused.value.code == "INVALID_ARGS"
        with pytest.raises(InvocationError) as forbidden:
            await scene.host.trigger("state::on-changed", {})
        assert forbidden.value.code == "FORBIDDEN"

    async def test_max_in_flight_bounds_all_keys_together(self, scene: Scene) -> None:
        out, most = 0, 0

        async def handler(_event: Any) -> None:
            nonlocal out, most
            out += 1
            most = max(most, out)
            await asyncio.sleep(0)
            out -= 1
            scene.got.append(1)

        scene.host.register_function("t::slow", handler)
        await scene.host.observe("state::on-changed", "t::slow", max_in_flight=2)
        await asyncio.gather(*(scene.set(f"k{number}", 1) for number in range(20)))
        await scene.until(20)
        assert most == 2

    async def test_calls_of_state_functions_are_observed_as_calls(self, scene: Scene) -> None:
        await scene.host.observe(
            "state::set", "t::g", filters={"input.key": {"$prefix": "a"}}, capture=["input"]
        )
        await scene.set("abc", 1)
        await scene.set("xyz", 1)
        await scene.set("a", 2)
        inputs = [envelope["input"] for envelope in await scene.until(2)]
        assert [given["key"] for given in inputs] == ["abc", "a"]


async def test_triggers_disabled_silence_observers_too() -> None:
    async with open_host(adapter="memory", triggers_enabled=False) as host:
        scene = Scene(host)
        await host.observe("state::on-changed", "t::g")
        await host.observe("state::set", "t::g", deliver="input")
        await scene.set("k", 1)
        assert [payload["key"] for payload in await scene.until(1)] == ["k"]


async def test_without_state_the_observer_waits() -> None:
    async with open_host(config=Config(state=None)) as host:
        host.register_function("t::g", print)
        observer = await host.observe("state::on-changed", "t::g")
        assert observer.state == "pending"
        assert observer.unobserve()
        assert not observer.unobserve()
        assert (observer.state, observer.reason.code if observer.reason else None) == (
            "disposed",
            "UNOBSERVED",
        )


class TestTheEngine:
    async def test_functions_workers_and_observers(self, scene: Scene) -> None:
        host = scene.host
        await host.observe("engine::on-workers-changed", "t::g", deliver="input")
        worker = Party(host.engine, "newcomer")
        await scene.until(2)
        assert [event["event"] for event in scene.got] == ["worker_connected", "worker_metadata_updated"]
        assert {event["worker_id"] for event in scene.got} == {worker.worker.id}
        scene.got.clear()
        await host.observe("engine::on-functions-changed", "t::g", deliver="input")
        worker.register("n::f")
        (event,) = await scene.until(1)
        assert event["event"] == "functions_changed"
        assert "n::f" in {row["function_id"] for row in event["functions"]}

    async def test_observers_changed_does_not_feed_itself(self, scene: Scene) -> None:
        host = scene.host
        await host.observe("engine::on-observers-changed", "t::g", deliver="input")
        other = await host.observe("state::set", "t::missing")
        host.register_function("t::missing", print)
        other.unobserve()
        await scene.until(3)
        assert [(event["observer_id"], event["state"]) for event in scene.got] == [
            (other.id, "pending"), (other.id, "active"), (other.id, "disposed"),
        ]  # fmt: skip
        assert scene.got[-1]["reason"]["code"] == "UNOBSERVED"
        assert (scene.got[0]["function_id"], scene.got[0]["target"]) == ("state::set", "t::missing")

    async def test_log_lines_by_level(self, scene: Scene) -> None:
        host = scene.host
        await host.observe(
            "observability::on-log", "t::g", filters={"input.level": {"$eq": "warn"}}, deliver="input"
        )
        await host.trigger("engine::log::info", {"message": "no"})
        await host.trigger("engine::log::warn", {"message": "yes"})
        (event,) = await scene.until(1)
        assert (event["body"], event["severity_text"]) == ("yes", "WARN")

    async def test_configuration_entries(self, scene: Scene) -> None:
        host = scene.host
        await host.observe(
            "configuration::on-updated", "t::g", filters={"input.id": {"$eq": "app"}}, deliver="input"
        )
        entry = {"id": "app", "name": "App", "description": "d", "schema": {"type": "object"}}
        await host.trigger("configuration::register", {**entry, "initial_value": {"n": 1}})
        await host.trigger("configuration::register", {**entry, "id": "other"})
        await host.trigger("configuration::set", {"id": "app", "value": {"n": 2}})
        await scene.until(2)
        assert [event["event_type"] for event in scene.got] == [
            "configuration:registered", "configuration:updated",
        ]  # fmt: skip

    async def test_what_others_serve_waits_and_the_log_says_who(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = StateConfig(adapter_name="memory")
        async with open_host(config=Config(state=memory, companions=())) as host:
            host.register_function("t::g", lambda _payload: None)
            observer = await host.observe("stream::on-changed", "t::g")
            assert observer.state == "pending"
            assert "iii-stream" in caplog.text


class TestInProcess:
    async def test_an_observer_tells_what_became_of_it(self, scene: Scene) -> None:
        scene.host.register_function("h::f", lambda payload: payload["n"])
        observer = await scene.host.observe("h::f", "t::g", deliver="output", max_fires=2, metadata={"m": 1})
        for number in range(3):
            await scene.host.trigger("h::f", {"n": number})
        assert await scene.until(2) == [0, 1]
        assert (observer.state, observer.fires, observer.dropped) == ("disposed", 2, {})

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"filters": {"x": {"$eq": 1}}}, "INVALID_FILTER"),
            ({"on": "sometimes"}, "INVALID_ARGS"),
            ({"max_fires": 0}, "INVALID_ARGS"),
            ({"args": {"a": 1}}, "INVALID_ARGS"),
        ],
    )
    async def test_a_refusal_is_raised_with_its_code(self, scene: Scene, fields: Any, code: str) -> None:
        with pytest.raises(CallerError) as refused:
            await scene.host.observe("state::set", "t::g", **fields)
        assert refused.value.code == code

    async def test_args_are_checked_against_the_format_of_a_worker(self, scene: Scene) -> None:
        worker = Party(scene.host.engine, "host")
        worker.register("w::f", args_format={"type": "object", "required": ["topic"]})
        with pytest.raises(CallerError, match="required") as refused:
            await scene.host.observe("w::f", "t::g")
        assert refused.value.code == "INVALID_ARGS"
        assert (await scene.host.observe("w::f", "t::g", args={"topic": "a"})).state == "pending"
        worker.ack()

    async def test_handlers_that_call_on_do_not_loop_for_ever(self, scene: Scene) -> None:
        async def again(_payload: Any) -> None:
            await scene.host.trigger("h::f", {})

        scene.host.register_function("h::f", lambda _payload: None)
        scene.host.register_function("t::again", again)
        observer = await scene.host.observe("h::f", "t::again")
        await scene.host.trigger("h::f", {})
        async with asyncio.timeout(10):
            while not observer.dropped:
                await asyncio.sleep(0.001)
        assert (observer.fires, observer.dropped) == (8, {"LOOP_GUARD": 1})

    async def test_introspection_shows_it(self, scene: Scene) -> None:
        host = scene.host
        observer = await host.observe("state::set", "t::g", filters={"input.key": {"$eq": "k"}}, max_fires=9)
        rows = (await host.trigger("engine::observers::list", {"function_id": "state::set"}))["observers"]
        assert rows == [(await host.trigger("engine::observers::get", {"id": observer.id}))["observer"]]
        assert rows[0]["filters"] == {"$and": [{"input.key": {"$eq": "k"}}]}
        assert (rows[0]["max_fires"], rows[0]["dropped"], rows[0]["on"]) == (9, {}, "success")
        for wrong in ({"target": "x"}, {"state": "error"}, {"worker": "w"}, {"function_id": "state::get"}):
            assert (await host.trigger("engine::observers::list", wrong))["observers"] == []
        info = await host.trigger("engine::functions::info", {"function_id": "state::set"})
        assert (info["observer_count"], info["observable"], info["private"]) == (1, True, False)
        with pytest.raises(InvocationError) as missing:
            await host.trigger("engine::observers::get", {"id": "nobody"})
        assert missing.value.code == "OBSERVER_NOT_FOUND"
        assert json.dumps(rows)
