"""Healthy set-ups give no alarm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from doctor.place import FILE_BASED, Place
from support.host import WAIT_S, HostProcess
from support.redis import redis_server

from iii_skill.adapter import StateAdapter
from iii_skill.attach.state_worker import Attached
from iii_skill.config import load_config
from iii_skill.plugins import load_plugins

Make = Callable[[Place], Awaitable[None]]
HEALTHY: dict[str, Make] = {}
"""Set-ups in which nothing at all is to be said, once a host runs."""


def healthy(make: Make) -> Make:
    HEALTHY[make.__name__] = make
    return make


@healthy
async def a_fresh_host(place: Place) -> None:
    await place.host()


@healthy
async def a_host_in_a_process_with_data(place: Place) -> None:
    await place.written()
    ports = ["--port", str(place.asked["port"]), "--http-port", str(place.asked["http_port"])]
    host = HostProcess(place.cwd, *ports, ports=False).start()
    place.stack.callback(host.kill)


@healthy
async def a_store_that_nobody_has_open(place: Place) -> None:
    await place.host()
    await place.written()


@healthy
async def a_file_of_the_new_generation(place: Place) -> None:
    place.config(
        FILE_BASED + "  - name: iii-worker-manager\n  - name: iii-http\n"
        "  - name: iii-queue\n  - name: iii-stream\n  - name: iii-pubsub\n  - name: iii-cron\n"
    )
    await place.host(config=load_config(place.cwd / "iii-config.yaml", {}))


@healthy
async def a_file_of_the_old_generation(place: Place) -> None:
    place.config(
        "modules:\n  - class: modules::state::StateModule\n    config:\n      adapter:\n"
        "        class: modules::state::adapters::KvStore\n        config:\n"
        "          store_method: file_based\n          file_path: ./data/state\n"
        "  - class: modules::api::RestApiModule\n    config: {port: 3111, host: 127.0.0.1}\n",
        "engine.yaml",
    )
    place.asked["config_file"] = place.cwd / "engine.yaml"
    await place.host()


@healthy
async def settings_that_an_engine_stored(place: Place) -> None:
    place.config(FILE_BASED + "  - name: iii-http\n")
    place.config("id: iii-http\nname: HTTP\nvalue: {port: 3111}\n", "config/iii-http.yaml")
    await place.host()


@healthy
async def a_token_on_both_sides(place: Place) -> None:
    place.env |= {"III_TOKEN": "secret", "III_SKILL_TOKEN": "secret"}
    await place.host(token="secret")


@healthy
async def a_token_in_a_file(place: Place) -> None:
    (place.cwd / "token").write_text("secret\n")
    (place.cwd / "token").chmod(0o600)
    place.env["III_TOKEN_FILE"] = "token"
    await place.host(token="secret")


@healthy
async def open_to_others_with_a_token(place: Place) -> None:
    place.asked["address"] = "0.0.0.0"
    place.env["III_SKILL_TOKEN"] = "secret"
    await place.host(token="secret")


@healthy
async def a_redis_with_a_file(place: Place) -> None:
    server = place.stack.enter_context(redis_server("--appendonly", "yes"))
    place.state("redis", redis_url=server.url)
    await place.host()


@healthy
async def workers_with_triggers(place: Place) -> None:
    host = await place.host()
    worker = await place.worker(name="shop", runtime="python", version="0.25.0")
    await worker.register("shop::on-change", lambda _event: None)
    await place.worker(name="web", runtime="node", version="0.22.1")
    await worker.result("engine::functions::list", {})
    host.register_trigger("state", "shop::on-change", {"scope": "shop"})
    host.register_trigger("http", "shop::on-change", {"api_path": "/shop", "http_method": "POST"})


@healthy
async def a_url_by_name(place: Place) -> None:
    await place.host()
    place.env["III_URL"] = f"ws://localhost:{place.asked['port']}"


@healthy
async def state_that_is_attached(place: Place) -> None:
    await place.host_without_state()
    url = f"ws://127.0.0.1:{place.asked['port']}"
    adapter: StateAdapter = load_plugins().adapter("memory")()
    await adapter.open(adapter.config_type())
    place.stack.push_async_callback(adapter.close)
    ready = asyncio.Event()
    attached = Attached(url, adapter, max_value_bytes=None, token=None, on_ready=ready.set)
    running = asyncio.create_task(attached.run())

    async def end() -> None:
        await attached.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    place.stack.push_async_callback(end)
    await asyncio.wait_for(ready.wait(), WAIT_S)


@pytest.mark.parametrize("name", HEALTHY)
async def test_nothing_is_said(name: str, place: Place) -> None:
    await HEALTHY[name](place)
    report = await place.look()
    assert report.loud == [], [(f.id, f.found) for f in report.findings[:4]]


async def test_without_a_host_only_that_is_said(place: Place) -> None:
    report = await place.look()
    assert report.loud == ["engine.reachable"]


def test_at_least_ten() -> None:
    assert len(HEALTHY) >= 10
