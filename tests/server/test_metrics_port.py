"""The port for those who watch: figures are true, readiness follows the store, and strangers are kept out."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.client import raw_client
from support.host import free_port, running_host

from iii_skill import Host, open_host
from iii_skill.engine.engine import Engine
from iii_skill.engine.fanout import LONGEST_CHAIN, Fanout
from iii_skill.errors import ConfigurationError, InvocationError, PortTaken
from iii_skill.metrics.exposition import CONTENT_TYPE
from iii_skill.server.ports import Servers


class Reply:
    """What one request got."""

    def __init__(self, url: str, path: str, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): v for name, v in headers.items()}
            )
            answer = connection.getresponse()
            self.status, self.type = answer.status, answer.getheader("content-type")
            self.body = answer.read()
        finally:
            connection.close()


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """By name and values of labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def ask(url: str | None, path: str, method: str = "GET", **headers: str) -> Reply:
    assert url is not None
    return await asyncio.to_thread(Reply, url, path, method, **headers)


@asynccontextmanager
async def watched(**options: Any) -> AsyncIterator[tuple[Host, Servers]]:
    async with open_host(watched=True, **options) as host:
        yield host, await host.serve(port=0, http_port=0, metrics_port=0)


async def test_calls_are_counted_by_what_became_of_them() -> None:
    async with watched() as (host, servers):
        async with raw_client(servers.ws_url) as client:
            before = samples((await ask(servers.metrics_url, "/metrics")).body)
            for number in range(5):
                await client.result("state::set", {"scope": "s", "key": str(number), "value": number})
            await client.result("state::get", {"scope": "s", "key": "1"})
            for name in ("nowhere::1", "nowhere::2"):
                with pytest.raises(InvocationError, match="not found"):
                    await host.trigger(name)
            with pytest.raises(InvocationError):
                await host.trigger("state::get", {"scope": 1})
            page = await ask(servers.metrics_url, "/metrics")
            now = samples(page.body)

        def more(*name: str) -> float:
            return now[name] - before[name]

        assert (page.status, page.type) == (200, CONTENT_TYPE)
        assert more("iii_state_operations_total", "state::set") == 5
        assert more("iii_state_operations_total", "state::get") == 2
        assert more("iii_invocations_total", "host") == 7
        assert more("iii_invocation_errors_total", "not_found") == 2
        assert more("iii_invocation_errors_total", "error") == 1
        assert now[("iii_workers_active",)] == 1
        assert now[("iii_functions", "host")] > 20
        assert now[("iii_loop_lag_seconds",)] >= 0


async def test_events_are_counted_and_those_that_nobody_takes_as_dropped() -> None:
    async with watched() as (host, servers):
        seen: list[Any] = []
        host.register_function("seen::it", seen.append)
        host.register_trigger("state", "seen::it", {"scope": "s"})
        for number in range(7):
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": number})
        while len(seen) < 7:
            await asyncio.sleep(0)
        now = samples((await ask(servers.metrics_url, "/metrics")).body)
        assert now[("iii_events_total", "fired")] == 7
        assert now[("iii_events_total", "dropped")] == 0
        assert now[("iii_triggers",)] == 1


async def test_events_that_go_round_in_circles_are_counted_as_dropped() -> None:
    async with watched() as (host, servers):

        async def again(event: Any) -> None:
            await host.trigger("state::set", {"scope": "s", "key": "k", "value": event["new_value"] + 1})

        host.register_function("again::it", again)
        host.register_trigger("state", "again::it", {"scope": "s"})
        await host.trigger("state::set", {"scope": "s", "key": "k", "value": 0})
        while True:
            now = samples((await ask(servers.metrics_url, "/metrics")).body)
            if now[("iii_events_total", "dropped")]:
                break
        assert now[("iii_events_total", "dropped")] == 1
        assert now[("iii_events_total", "fired")] == LONGEST_CHAIN


async def test_jobs_of_queues_are_told_by_queue_and_state() -> None:
    async with watched() as (host, servers):
        for number in range(3):
            await host.trigger("iii::durable::publish", {"topic": 'odd "name"\n', "data": number})
        gate = asyncio.Event()

        async def wait(_payload: Any) -> None:
            await gate.wait()

        host.register_function("work::wait", wait)
        config = {"topic": "work", "queue_config": {"concurrency": 1}}
        host.register_trigger("durable:subscriber", "work::wait", config)
        for number in range(4):
            await host.trigger("iii::durable::publish", {"topic": "work", "data": number})
        while True:
            now = samples((await ask(servers.metrics_url, "/metrics")).body)
            jobs = {name[-1]: value for name, value in now.items() if "work" in name}
            if jobs.get("running") == 1:
                break
        gate.set()
        assert jobs["waiting"] + jobs["running"] == 4
        assert jobs["dead"] == 0


async def test_a_process_that_answers_is_healthy_and_ready() -> None:
    async with watched() as (_, servers):
        healthy = await ask(servers.metrics_url, "/healthz")
        assert (healthy.status, healthy.body) == (200, b'{"ok":true}')
        ready = await ask(servers.metrics_url, "/readyz")
        assert ready.status == 200
        assert json.loads(ready.body)["adapter"] == "memory"
        assert json.loads(ready.body)["reasons"] == []


async def test_a_store_that_is_away_is_not_ready_and_says_why() -> None:
    config = {"redis_url": f"redis://127.0.0.1:{free_port()}/0"}
    async with watched(adapter="redis", adapter_config=config) as (_, servers):
        ready = await ask(servers.metrics_url, "/readyz")
        assert ready.status == 503
        said = json.loads(ready.body)
        assert said["ready"] is False
        assert said["adapter"] == "redis"
        assert config["redis_url"].split("/")[2] in said["reasons"][0]
        assert (await ask(servers.metrics_url, "/healthz")).status == 200
        assert (await ask(servers.metrics_url, "/metrics")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_pages_of_strangers_are_kept_out(path: str) -> None:
    async with watched() as (_, servers):
        for headers in ({"Host": "attacker.example"}, {"Origin": "https://attacker.example"}):
            assert (await ask(servers.metrics_url, path, **headers)).status == 403
        assert (await ask(servers.metrics_url, path, Sec_Fetch_Site="cross-site")).status == 403
        assert (await ask(servers.metrics_url, path, "POST")).status == 405
        head = await ask(servers.metrics_url, path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert (await ask(servers.metrics_url, path + "/x")).status == 404


async def test_many_who_ask_at_once_get_one_answer_each() -> None:
    async with watched() as (_, servers):
        replies = await asyncio.gather(*(ask(servers.metrics_url, "/metrics") for _ in range(40)))
        assert {reply.status for reply in replies} == {200}
        assert all(reply.body.endswith(b"# EOF\n") for reply in replies)


async def test_a_host_that_nobody_watches_counts_nothing_and_loads_nothing() -> None:
    async with open_host() as host:
        assert type(host.engine) is Engine
        assert type(host.engine.fanout) is Fanout
        servers = await host.serve(port=0, http_port=0)
        assert servers.metrics_url is None
    async with open_host() as host:
        with pytest.raises(ConfigurationError, match="watched=True"):
            await host.serve(port=0, http_port=0, metrics_port=0)


async def test_a_taken_port_ends_the_start_and_names_its_option() -> None:
    async with watched() as (_, servers):
        taken = urlsplit(servers.metrics_url or "").port
        async with open_host(watched=True) as other:
            with pytest.raises(PortTaken, match="--metrics-port"):
                await other.serve(port=0, http_port=0, metrics_port=taken)


def test_a_served_host_is_watched_where_it_is_asked_for(tmp_path: Path) -> None:
    port = str(free_port())
    with running_host(tmp_path, "--adapter", "memory", "--metrics-port", port) as host:
        assert host.ready["metrics"] == f"http://127.0.0.1:{port}"
        found = samples(Reply(host.ready["metrics"], "/metrics").body)
        assert found[("process_resident_memory_bytes",)] > 1_000_000
        assert host.sigterm() == 0
    with running_host(tmp_path, "--adapter", "memory") as host:
        assert "metrics" not in host.ready
