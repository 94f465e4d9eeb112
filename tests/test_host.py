"""The host in process: no socket until `serve`, the same answers and errors as on the wire."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import iii_skill
from iii_skill import InvocationError, open_host
from iii_skill.config import Config
from iii_skill.errors import ConfigurationError, InputError, PluginError, TriggerRefused
from iii_skill.host import Host


async def test_values_are_kept_and_given_back() -> None:
    async with open_host(adapter="memory") as host:
        answer = await host.trigger("state::set", {"scope": "s", "key": "k", "value": {"n": 2**70}})
        assert answer == {"new_value": {"n": 2**70}, "old_value": None}
        assert await host.trigger("state::get", {"scope": "s", "key": "k"}) == {"n": 2**70}
        assert await host.trigger("state::list", {"scope": "s"}) == [{"n": 2**70}]
        assert await host.trigger("state::list_groups") == {"groups": ["s"]}


async def test_errors_are_exceptions_with_the_code_of_the_wire() -> None:
    async with open_host(adapter="memory", max_value_bytes=10) as host:
        for function_id, payload, code in (
            ("state::set", {"scope": "s"}, "deserialization_error"),
            ("state::set", {"scope": "s", "key": "k", "value": "x" * 20}, "VALUE_TOO_LARGE"),
            ("state::nope", {}, "function_not_found"),
        ):
            with pytest.raises(InvocationError) as caught:
                await host.trigger(function_id, payload)
            assert caught.value.code == code


async def test_a_host_that_offers_only_what_an_engine_has() -> None:
    where = {"scope": "s", "key": "k"}
    async with open_host(adapter="memory", engine_functions_only=True) as host:
        for function in ("compare-and-set", "list_keys", "list_entries"):
            with pytest.raises(InvocationError) as caught:
                await host.trigger(f"state::{function}", where | {"value": 1})
            assert caught.value.code == "function_not_found"
            assert "started with --engine-functions-only" in str(caught.value)
        assert await host.trigger("state::set", where | {"value": 1}) == {"old_value": None, "new_value": 1}
        rows = (await host.trigger("engine::functions::list", {"prefix": "state::"}))["functions"]
        assert {row["function_id"].removeprefix("state::") for row in rows} == {
            "set",
            "get",
            "delete",
            "update",
            "list",
            "list_groups",
        }
    async with open_host(adapter="memory") as host:
        assert await host.trigger("state::compare-and-set", where | {"value": 1}) == {"swapped": True}


async def test_settings_of_the_adapter_in_the_wrong_place_are_one_sentence() -> None:
    settings: Any = {"data_dir": "here"}
    with pytest.raises(ConfigurationError, match="settings of the adapter go into `adapter_config`"):
        async with open_host(adapter="file", config=settings):
            pass


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), "\ud800", {1, 2}, object()])
async def test_what_json_cannot_say_is_refused_before_it_is_sent(payload: Any) -> None:
    async with open_host() as host:
        with pytest.raises(InputError):
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": payload})
        assert await host.trigger("state::get", {"scope": "s", "key": "k"}) is None


async def test_python_functions_and_triggers() -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with open_host() as host:

        async def on_change(event: dict[str, Any]) -> None:
            await seen.put(event)

        host.register_function("shop::on-change", on_change)
        host.register_function("shop::double", lambda payload: {"n": payload["n"] * 2}, description="Double")
        assert await host.trigger("shop::double", {"n": 4}) == {"n": 8}
        trigger_id = host.register_trigger("state", "shop::on-change", {"scope": "shop"})
        await host.trigger("state::set", {"scope": "other", "key": "k", "value": 1})
        await host.trigger("state::set", {"scope": "shop", "key": "k", "value": 1})
        event = await asyncio.wait_for(seen.get(), 30)
        assert (event["event_type"], event["key"], event["new_value"]) == ("state:created", "k", 1)
        assert host.unregister_trigger(trigger_id) is True
        assert host.unregister_trigger(trigger_id) is False
        host.unregister_function("shop::double")
        with pytest.raises(InvocationError, match="not found"):
            await host.trigger("shop::double", {})
        with pytest.raises(TriggerRefused):
            host.register_trigger("state", "shop::on-change", {"scope": 5})


async def test_events_of_one_key_are_in_order_and_a_slow_handler_holds_back_no_other_key() -> None:
    order: dict[str, list[int]] = {"slow": [], "fast": []}
    done = asyncio.Event()
    release = asyncio.Event()
    async with open_host() as host:

        async def handler(event: dict[str, Any]) -> None:
            if event["key"] == "slow":
                await release.wait()
            order[event["key"]].append(event["new_value"])
            if len(order["fast"]) == 50:
                release.set()
            if len(order["slow"]) == 50:
                done.set()

        host.register_function("h", handler)
        host.register_trigger("state", "h", {})
        for number in range(50):
            for key in ("slow", "fast"):
                await host.trigger("state::set", {"scope": "s", "key": key, "value": number})
        await asyncio.wait_for(done.wait(), 30)
    assert order == {"slow": list(range(50)), "fast": list(range(50))}


async def test_events_of_acknowledged_writes_are_handled_before_the_host_is_closed() -> None:
    seen: list[tuple[str, int]] = []

    async def on_change(event: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        seen.append((event["key"], event["new_value"]))

    async with open_host() as host:
        host.register_function("t::on-change", on_change)
        host.register_trigger("state", "t::on-change", {"scope": "s"})
        for number in range(100):
            key = f"k{number % 3}"
            await host.trigger("state::set", {"scope": "s", "key": key, "value": number})
    assert len(seen) == 100
    for key in ("k0", "k1", "k2"):
        values = [value for name, value in seen if name == key]
        assert values == sorted(values)


async def test_a_function_that_runs_is_answered_before_the_host_is_closed() -> None:
    go = asyncio.Event()

    async def slow(_payload: Any) -> str:
        await go.wait()
        return "done"

    async with open_host() as host:
        host.register_function("t::slow", slow)
        waiting = asyncio.create_task(host.trigger("t::slow"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.02, go.set)
    assert await waiting == "done"


async def test_a_handler_that_never_ends_holds_the_close_up_no_longer_than_the_grace() -> None:
    async with open_host() as host:
        host.register_function("t::stuck", lambda _event: asyncio.Event().wait())
        host.register_trigger("state", "t::stuck", {"scope": "s"})
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        async with asyncio.timeout(30):
            await host.close(grace_s=0.05)


async def test_whoever_calls_in_a_loop_gives_others_their_turn() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with open_host() as host:
        counting = asyncio.create_task(count())
        for _ in range(50):
            await host.trigger("state::get", {"scope": "s", "key": "k"})
        counting.cancel()
    assert turns >= 50


async def test_no_socket_is_opened_before_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: Any, **_options: Any) -> None:
        raise AssertionError("a socket was opened")

    async with open_host() as host:
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "bind", forbidden)
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        servers = await host.serve(port=0, http_port=0)
        assert servers.ws_url.startswith("ws://127.0.0.1:")
        assert await host.serve() is servers


async def test_a_store_on_disk_is_there_again(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "state")}
    async with open_host(adapter="file", adapter_config=settings) as host:
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 1})
        assert host.adapter is not None
        assert host.adapter.data_dir == tmp_path / "state"
    async with open_host(adapter="file", adapter_config=settings) as host:
        assert await host.trigger("state::get", {"scope": "s", "key": "k"}) == 1


async def test_a_wrong_adapter_or_setting_says_what_there_is() -> None:
    with pytest.raises(PluginError, match=r"'nope'.*file, memory"):
        async with open_host(adapter="nope"):
            pass
    with pytest.raises(ConfigurationError, match="unknown key 'colour'"):
        async with open_host(adapter="file", adapter_config={"colour": "red"}):
            pass


async def test_without_state_its_functions_say_so() -> None:
    host = Host(Config(state=None))
    await host.open()
    with pytest.raises(InvocationError, match="attach"):
        await host.trigger("state::get", {"scope": "s", "key": "k"})
    await host.close()
    await host.close()


def test_public_names_are_importable() -> None:
    for name in iii_skill.__all__:
        assert getattr(iii_skill, name) is not None
    with pytest.raises(AttributeError):
        _ = iii_skill.nonsense


async def test_a_closed_host_opens_no_ports() -> None:
    async with open_host() as host:
        pass
    with pytest.raises(ConfigurationError, match="This host is closed"):
        await host.serve(port=0, http_port=0)
