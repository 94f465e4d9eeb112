"""Telemetry of workers reaches a collector unchanged; what does not is counted, and holds nothing up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from support.collector import Collector, collecting
from support.host import free_port
from websockets.asyncio.client import connect

from iii_skill import open_host
from iii_skill.server import telemetry
from iii_skill.server.telemetry import Forwarder, collector_of
from iii_skill.traces import Sampler, Span, Tracer

TRACE = json.dumps(
    {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "grüße"}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "eee19b7ec3c1b174",
                                "name": "call f",
                                "kind": 2,
                                "startTimeUnixNano": "1544712660000000000",
                            }
                        ]
                    }
                ],
            }
        ]
    },
    ensure_ascii=False,
    indent=1,
).encode()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def forwarder_to(url: str, **options: int) -> Forwarder:
    found = collector_of({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert found is not None
    return Forwarder(found, **options)


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def test_each_signal_goes_to_its_path_byte_for_byte(collector: Collector) -> None:
    forwarder = forwarder_to(collector.url)
    forwarder.take(b"OTLP" + TRACE)
    forwarder.take(b'MTRC{"resourceMetrics":[]}')
    forwarder.take(b'LOGS{ "resourceLogs" : [] }')
    forwarder.close(20)
    assert collector.got == [
        ("/v1/traces", TRACE),
        ("/v1/metrics", b'{"resourceMetrics":[]}'),
        ("/v1/logs", b'{ "resourceLogs" : [] }'),
    ]
    (request,) = collector.read("/v1/traces")
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert {headers["content-type"] for headers in collector.headers} == {"application/json"}
    assert forwarder.counts == {"sent": 3, "dropped": 0, "refused": 0, "unknown": 0}


@pytest.mark.parametrize("frame", [b"", b"OTLP", b"OTLP\x0a\x05", b"NONE{}", b"otlp{}", b"OTL"])
def test_what_is_no_telemetry_is_counted_and_goes_nowhere(collector: Collector, frame: bytes) -> None:
    forwarder = forwarder_to(collector.url)
    forwarder.take(frame)
    forwarder.close(20)
    assert forwarder.counts["unknown"] == 1
    assert collector.got == []


def test_a_busy_collector_is_asked_again_and_one_that_refuses_is_not(collector: Collector) -> None:
    collector.answers = [503, 429, 502, 504, 200, 400, 302]
    forwarder = forwarder_to(collector.url)
    for number in range(4):
        forwarder.take(b'LOGS{"n":%d}' % number)
    until(lambda: sum(forwarder.counts.values()) == 4)
    forwarder.close(20)
    assert [body for _, body in collector.got] == [b'{"n":0}', b'{"n":3}']
    assert forwarder.counts == {"sent": 2, "dropped": 0, "refused": 2, "unknown": 0}


def test_a_collector_that_was_away_gets_all_of_it_in_order(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    forwarder = forwarder_to(f"http://127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING, telemetry.__name__):
        for number in range(2000):
            forwarder.take(b'OTLP{"n":%d}' % number)
        until(lambda: "tried again" in caplog.text)
        with collecting(port) as collector:
            until(lambda: forwarder.counts["sent"] == 2000)
            forwarder.close(20)
            assert [body for _, body in collector.got] == [b'{"n":%d}' % n for n in range(2000)]
    assert forwarder.counts["dropped"] == 0
    assert "takes telemetry again; left out: 0 frame(s), 0 span(s)" in caplog.text


def test_every_frame_that_finds_no_room_is_counted() -> None:
    port = free_port()
    forwarder = forwarder_to(f"http://127.0.0.1:{port}", waiting_bytes=10_000)
    for _ in range(100):
        forwarder.take(b"LOGS{" + b" " * 994 + b"}")
    assert forwarder.counts["dropped"] == 90
    with collecting(port) as collector:
        until(lambda: forwarder.counts["sent"] == 10)
        forwarder.close(20)
        assert len(collector.got) == 10


def test_the_end_waits_for_nobody_and_counts_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    forwarder = forwarder_to(f"http://127.0.0.1:{free_port()}")
    for _ in range(5):
        forwarder.take(b"OTLP{}")
    forwarder.close(0.2)
    assert forwarder.counts["dropped"] == 5
    assert "5 frame(s) of workers' telemetry did not reach the collector" in caplog.text
    forwarder.take(b"OTLP{}")
    assert forwarder.counts["dropped"] == 6


def test_the_variables_of_opentelemetry_say_where() -> None:
    found = collector_of(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4318/base/",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://logs/in?x=1",
            "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=a%20b, x=1,,broken",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        }
    )
    assert found is not None
    assert found.targets == {
        b"OTLP": urlsplit("http://all:4318/base/v1/traces"),
        b"MTRC": urlsplit("http://all:4318/base/v1/metrics"),
        b"LOGS": urlsplit("https://logs/in?x=1"),
    }
    assert found.headers == {"api-key": "a b", "x": "1"}
    assert found.timeout_s == 2.5


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://host:99999"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a b/"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://.collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_without_a_usable_endpoint_nothing_is_forwarded(variables: dict[str, str]) -> None:
    assert collector_of(variables) is None


def test_no_secret_of_the_variables_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    collector_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hidden@c:1"})
    collector_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_EXPORTER_OTLP_HEADERS": "a b=hidden"})
    assert len(caplog.records) == 4
    assert "hidden" not in caplog.text


async def test_frames_of_both_doors_are_forwarded_and_calls_go_on(collector: Collector) -> None:
    async with open_host() as host:
        found = collector_of({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        servers = await host.serve(port=0, http_port=0, collector=found)
        async with connect(f"{servers.ws_url}/otel") as otel, connect(servers.ws_url) as worker:
            await otel.send(b'OTLP{"from":"otel"}')
            await otel.send(b"OTLP{" + b" " * 3_000_000 + b"}")
            await worker.send(b'LOGS{"from":"worker"}')
            await asyncio.to_thread(until, lambda: len(collector.got) == 3)
    assert {(path, body[:16]) for path, body in collector.got} == {
        ("/v1/traces", b'{"from":"otel"}'),
        ("/v1/traces", b"{" + b" " * 15),
        ("/v1/logs", b'{"from":"worker"'),
    }


async def test_with_the_collector_away_every_span_of_the_host_is_sent_or_counted() -> None:
    many = 1_000_000 if os.environ.get("III_SKILL_TEST_ALL") else 60_000
    away_s = 10.0 if os.environ.get("III_SKILL_TEST_ALL") else 1.0
    port = free_port()
    forwarder = forwarder_to(f"http://127.0.0.1:{port}", waiting_bytes=many * 100)
    tracer = Tracer(Sampler(by_parent=True, ratio=1.0), forwarder.take)
    start = time.monotonic()
    for number in range(many):
        Span(tracer, f"call {number}", 1, None).end()
        if number % 1000 == 0:
            await asyncio.sleep(0)
    tracer.flush()
    await asyncio.sleep(max(0.0, away_s - (time.monotonic() - start)))
    with collecting(port) as collector:
        await asyncio.to_thread(until, lambda: sum(forwarder.spans.values()) == many)
        await asyncio.to_thread(forwarder.close, 20)
        came = [span["name"] for _, body in collector.got for span in spans_of(body)]
    assert len(set(came)) == len(came) == forwarder.spans["sent"]
    assert 0 < forwarder.spans["dropped"] == many - len(came)
    assert set(forwarder.counts.values()) == {0}


def spans_of(body: bytes) -> list[dict[str, str]]:
    (resource,) = json.loads(body)["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans: list[dict[str, str]] = scope["spans"]
    return spans
