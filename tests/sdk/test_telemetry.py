"""What the real SDKs tell of themselves passes the host and is read by OpenTelemetry's own messages."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.collector import Collector, collecting
from support.host import running_host
from support.sdk_workers import running_worker


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def spans(collector: Collector) -> set[str]:
    """Name and trace of all that came."""
    return {
        f"{span.name} {span.trace_id.hex()}"
        for sent in collector.read("/v1/traces")
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def frames(url: str) -> dict[str, float]:
    """What the host says became of the frames."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as page:
        families = text_string_to_metric_families(page.read().decode())
        (found,) = [family for family in families if family.name == "iii_telemetry_frames"]
    return {sample.labels["outcome"]: sample.value for sample in found.samples}


def answered(request: urllib.request.Request) -> Any:
    """The answer, once the route is there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404 or time.monotonic() > deadline:
                    raise
        time.sleep(0.02)


@pytest.mark.parametrize("sdk", ["python-0.25.0", "node-0.22.1", "rust-0.25.0"])
def test_spans_of_a_worker_reach_the_collector(tmp_path: Path, sdk: str) -> None:
    with (
        collecting() as collector,
        running_host(
            tmp_path,
            "--adapter",
            "memory",
            "--metrics-port",
            "0",
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
        ) as host,
        running_worker(sdk, tmp_path / "worker", host.ws, env={"OTEL_ENABLED": "true"}) as worker,
    ):
        worker.line("registered")
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        request = urllib.request.Request(
            f"{host.http}/call",
            json.dumps({"function_id": "state::list_groups", "payload": {}}).encode(),
            {"content-type": "application/json", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        )
        assert answered(request) == {"result": {"groups": []}}
        until(lambda: f"execute sdk::call {trace}" in spans(collector))
        assert worker.stop() == 0
        for path in ("/v1/metrics", "/v1/logs"):
            collector.read(path)
        # One may be on its way between the two looks.
        until(lambda: set(frames(host.ready["metrics"]).values()) == {len(collector.got), 0})
        assert host.sigterm() == 0
