"""What SDKs do besides calls: telemetry, tokens, large messages, questions to the engine, leaving."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.client import raw_client
from support.host import running_host
from support.http import post, post_until
from support.sdk_workers import SDKS, running_worker

pytestmark = pytest.mark.timeout(400)

NEWEST = ["python-0.25.0", "node-0.22.1", "rust-0.25.0"]
ONE_MEBIBYTE = [sdk for sdk in SDKS if sdk in {"python-0.10.0", "python-0.23.0"}]
LARGE = [sdk for sdk in SDKS if sdk not in ONE_MEBIBYTE]


def complaints(log: str) -> list[str]:
    """Lines of a worker's log that tell of trouble; that a method is deprecated is none."""
    words = ("error", "warn", "traceback", "refused", "failed")
    lines = [line for line in log.splitlines() if "deprecat" not in line.lower()]
    return [line for line in lines if any(word in line.lower() for word in words)]


@pytest.mark.parametrize("sdk", NEWEST)
def test_telemetry_that_is_on_by_default_is_taken_without_a_complaint(tmp_path: Path, sdk: str) -> None:
    # The Python SDK sends its telemetry to III_URL, the others to the address of the worker.
    with (
        running_host(tmp_path) as host,
        running_worker(sdk, tmp_path / "worker", host.ws, env={"OTEL_ENABLED": "true"}) as worker,
    ):
        for _ in range(3):
            post_until(f"{host.http}/call", {"function_id": "state::list", "payload": {"scope": "a"}})
        assert worker.stop() in (0, -15)
        assert complaints(worker.log.read_text("utf-8")) == []
        assert host.sigterm() == 0
        assert host.complaints == []


@pytest.mark.parametrize("sdk", ["python-0.25.0", "rust-0.25.0"])
def test_a_worker_presents_its_token_from_the_environment(tmp_path: Path, sdk: str) -> None:
    call = {"function_id": "state::list", "payload": {"scope": "a"}}
    with (
        running_host(tmp_path, "--token", "hush") as host,
        running_worker(sdk, tmp_path / "worker", host.ws, env={"III_TOKEN": "hush"}),
    ):
        assert post_until(f"{host.http}/call", call) == {"result": []}


def test_a_worker_with_a_wrong_token_stays_out(tmp_path: Path) -> None:
    with (
        running_host(tmp_path, "--token", "hush") as host,
        running_worker("python-0.25.0", tmp_path / "worker", host.ws, env={"III_TOKEN": "wrong"}) as worker,
    ):
        worker.says("HTTP 401")
        assert post(f"{host.http}/call", {})[0] == 404


@pytest.mark.parametrize("sdk", ONE_MEBIBYTE)
async def test_a_result_over_one_mebibyte_is_an_error_where_the_sdk_would_die_of_it(
    tmp_path: Path, sdk: str
) -> None:
    with (
        running_host(tmp_path) as host,
        running_worker(sdk, tmp_path / "worker", host.ws) as worker,
    ):
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "big", "key": "k", "value": "x" * 1_500_000})
        get = {"function_id": "state::get", "payload": {"scope": "big", "key": "k"}}
        answer = post_until(f"{host.http}/call", get)
        assert "error" in answer
        assert answer["error"] not in ("TIMEOUT", "TimeoutError")
        assert post_until(f"{host.http}/call", {"function_id": "state::list_groups", "payload": {}})
        assert worker.process.poll() is None


@pytest.mark.parametrize("sdk", LARGE)
async def test_a_large_result_reaches_the_sdks_that_take_it(tmp_path: Path, sdk: str) -> None:
    value = "x" * 3_000_000
    with running_host(tmp_path) as host, running_worker(sdk, tmp_path / "worker", host.ws):
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "big", "key": "k", "value": value})
        get = {"function_id": "state::get", "payload": {"scope": "big", "key": "k"}}
        assert post_until(f"{host.http}/call", get) == {"result": value}


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_engine_knows_the_worker_and_forgets_it_when_it_leaves(tmp_path: Path, sdk: str) -> None:
    language, version = sdk.split("-", 1)
    with running_host(tmp_path) as host, running_worker(sdk, tmp_path / "worker", host.ws) as worker:
        listed = post_until(f"{host.http}/call", {"function_id": "engine::functions::list", "payload": {}})
        ids = {function["function_id"] for function in listed["result"]["functions"]}
        assert {"sdk::call", "sdk::fail", "sdk::changed"} <= ids
        async with raw_client(host.ws) as client:
            workers = (await client.result("engine::workers::list", {}))["workers"]
            mine = [entry for entry in workers if entry["runtime"] == language]
            assert len(mine) == 1, workers
            if version not in ("0.2.1", "0.3.0", "0.9.0"):
                assert mine[0]["version"] == version
            assert worker.stop() in (0, -15)
            # Its process has ended; that its connection has is told to the host by the network.
            while (code := await client.code("sdk::call", {})) == "invocation_stopped":
                pass
            assert code == "function_not_found"
