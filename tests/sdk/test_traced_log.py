"""`--log-format json` with a worker of the real SDK: a line about a traced call says which trace it is."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.collector import collecting
from support.host import HostProcess, running_host
from support.sdk_workers import running_worker

pytestmark = pytest.mark.timeout(300)

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WANTED = {
    "an order came": "iii_skill.workers",
    "called a function that is not there": "iii_skill.engine.engine",
    "no such reaction": "iii_skill.engine.fanout",
    "no such order": "iii_skill.server.http.complaints",
}
"""Parts of lines, and the loggers that write them."""


def lines(host: HostProcess) -> dict[str, dict[str, Any]]:
    """The lines that are wanted, by the part that is looked for."""
    written = [json.loads(line) for line in host.stderr.splitlines() if line.endswith("}")]
    return {part: line for part in WANTED for line in written if part in line["event"]}


def order(host: HostProcess, headers: dict[str, str]) -> None:
    request = urllib.request.Request(f"{host.http}/order", b'{"id":1}', headers)
    deadline = time.monotonic() + 60
    while True:
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=60)
        error.value.close()
        if error.value.code != 404:
            return
        assert time.monotonic() < deadline, "the route is not there"
        time.sleep(0.05)


def logged(host: HostProcess) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + 60
    while len(found := lines(host)) < len(WANTED):
        assert time.monotonic() < deadline, host.stderr
        time.sleep(0.05)
    assert {part: line["logger"] for part, line in found.items()} == WANTED
    return found


@pytest.mark.parametrize("otel", ["true", "false"])
def test_lines_about_a_traced_request_name_its_trace(tmp_path: Path, otel: str) -> None:
    """The SDK hands the trace on with its telemetry and without."""
    with (
        running_host(tmp_path, "--adapter", "memory", "--log-format", "json", "--log-level", "info") as host,
        running_worker(
            "python-0.25.0", tmp_path / "w", host.ws, env={"OTEL_ENABLED": otel}, program="fails"
        ) as worker,
    ):
        worker.line("registered")
        order(host, {"content-type": "application/json", "traceparent": f"00-{TRACE}-{CLIENT}-01"})
        found = logged(host)
    assert {line.get("trace_id") for line in found.values()} == {TRACE}
    assert all(len(line["span_id"]) == 16 for line in found.values())


def test_the_span_of_a_line_is_the_one_that_the_host_sent(tmp_path: Path) -> None:
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with (
            running_host(tmp_path, "--adapter", "memory", "--log-format", "json", env=environment) as host,
            running_worker("python-0.25.0", tmp_path / "w", host.ws, program="fails") as worker,
        ):
            worker.line("registered")
            order(host, {"content-type": "application/json", "traceparent": f"00-{TRACE}-{CLIENT}-01"})
            deadline = time.monotonic() + 60
            while "no such order" not in (found := lines(host)):
                assert time.monotonic() < deadline, host.stderr
                time.sleep(0.05)
            assert host.sigterm() == 0
        sent = {
            span.span_id.hex(): span.name
            for request in collector.read("/v1/traces")
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
    assert found["no such order"]["trace_id"] == TRACE
    assert sent[found["no such order"]["span_id"]] == "POST /order"


def test_without_a_trace_a_line_has_none(tmp_path: Path) -> None:
    with (
        running_host(tmp_path, "--adapter", "memory", "--log-format", "json", "--log-level", "info") as host,
        running_worker("python-0.25.0", tmp_path / "w", host.ws, program="fails") as worker,
    ):
        worker.line("registered")
        order(host, {"content-type": "application/json"})
        found = logged(host)
    assert not any({"trace_id", "span_id"} & line.keys() for line in found.values())
