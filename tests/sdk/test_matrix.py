"""The real SDKs, unmodified: each version keeps durable state on the host and survives its restarts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.client import raw_client
from support.host import HostProcess, running_host
from support.http import post, post_until
from support.sdk_workers import SDKS, SdkWorker, running_worker

pytestmark = pytest.mark.timeout(400)


class Pair:
    """A host and a worker on it; calls go over HTTP through the worker's own SDK."""

    def __init__(self, host: HostProcess, worker: SdkWorker) -> None:
        self.host = host
        self.worker = worker

    def call(self, function_id: str, payload: Any) -> dict[str, Any]:
        """What the worker's SDK gives for a call: `{"result"}` or `{"error": code}`."""
        body = {"function_id": function_id, "payload": payload}
        answer: dict[str, Any] = post_until(f"{self.host.http}/call", body)
        return answer

    def result(self, function_id: str, payload: Any) -> Any:
        """The result of a call that succeeds."""
        answer = self.call(function_id, payload)
        assert "error" not in answer, answer
        return answer.get("result")


@pytest.fixture(params=SDKS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A host on the file adapter and the worker of one SDK, connected and registered."""
    with (
        running_host(tmp_path) as host,
        running_worker(request.param, tmp_path / "worker", host.ws) as worker,
    ):
        worker.line("registered", timeout=60)
        yield Pair(host, worker)


AT = {"scope": "matrix", "key": "a"}


def test_each_state_function_answers_through_the_sdk(pair: Pair) -> None:
    value = {"n": 1, "deep": [{"null": None}, "ü", 2**53]}
    assert pair.result("state::get", AT) is None
    assert pair.result("state::set", {**AT, "value": value}) == {"old_value": None, "new_value": value}
    assert pair.result("state::get", AT) == value
    ops = [{"type": "increment", "path": "n", "by": 2}]
    assert pair.result("state::update", {**AT, "ops": ops})["new_value"] == {**value, "n": 3}
    assert pair.result("state::set", {"scope": "matrix", "key": "b", "value": "two"})["new_value"] == "two"
    assert pair.result("state::list", {"scope": "matrix"}) == [{**value, "n": 3}, "two"]
    assert "matrix" in pair.result("state::list_groups", {})["groups"]
    assert pair.result("state::list_keys", {"scope": "matrix"})["keys"] == ["a", "b"]
    entries = pair.result("state::list_entries", {"scope": "matrix"})["entries"]
    assert entries == [["a", {**value, "n": 3}], ["b", "two"]]
    swap = {"scope": "matrix", "key": "b", "expected": "two", "value": "three"}
    assert pair.result("state::compare-and-set", swap)["swapped"] is True
    assert pair.result("state::compare-and-set", swap)["swapped"] is False
    assert pair.result("state::delete", AT) == {**value, "n": 3}
    assert pair.result("state::get", AT) is None


def test_errors_reach_the_sdk_with_their_codes(pair: Pair) -> None:
    assert pair.call("state::set", {"scope": "matrix"})["error"] == "deserialization_error"
    assert pair.call("no::such::function", {})["error"] == "function_not_found"
    assert pair.call("sdk::fail", {})["error"] == "invocation_failed"


async def test_an_error_of_a_handler_reaches_callers_over_both_doors(pair: Pair) -> None:
    pair.result("state::get", AT)
    status, body = post(f"{pair.host.http}/fail", {})
    assert status == 500
    assert body["error"]["code"] == "invocation_failed"
    async with raw_client(pair.host.ws) as client:
        answer = await client.call("sdk::fail", {})
    assert answer["error"]["code"] == "invocation_failed"
    assert "broken on purpose" in answer["error"]["message"]


def test_a_state_trigger_fires_in_order(pair: Pair) -> None:
    pair.result("state::get", AT)
    for value in (1, 2):
        pair.result("state::set", {"scope": "watched", "key": "k", "value": value})
    pair.result("state::set", {"scope": "other", "key": "k", "value": 9})
    pair.result("state::delete", {"scope": "watched", "key": "k"})
    events = [pair.worker.line("event") for _ in range(3)]
    assert [event["event_type"] for event in events] == ["state:created", "state:updated", "state:deleted"]
    assert [event["scope"] for event in events] == ["watched"] * 3
    assert (events[1]["old_value"], events[1]["new_value"]) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_worker_reconnects_after_a_restart_and_its_state_is_there(
    pair: Pair, number: signal.Signals
) -> None:
    pair.result("state::set", {**AT, "value": {"kept": True}})
    pair.host.restart(number)
    assert pair.result("state::get", AT) == {"kept": True}
    pair.result("state::set", {"scope": "watched", "key": "after", "value": 1})
    assert pair.worker.line("event")["key"] == "after"
    assert pair.worker.process.poll() is None
    assert pair.worker.stop() in (0, -signal.SIGTERM)
