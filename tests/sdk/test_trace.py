"""One trace goes from an HTTP client through workers of three languages, the state and its reaction."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.collector import Collector, collecting
from support.host import running_host
from support.postgres import postgres_server
from support.redis import redis_server
from support.sdk_workers import running_worker

pytestmark = pytest.mark.timeout(900)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def answered(request: urllib.request.Request) -> Any:
    """The answer, or the status of an error."""
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def spans(collector: Collector) -> dict[str, tuple[str, str, Any]]:
    """The spans of the trace: id to service, name and the span."""
    return {
        span.span_id.hex(): (service_of(resource.resource), span.name, span)
        for sent in collector.read("/v1/traces")
        for resource in sent.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id.hex() == TRACE
    }


def listed(found: dict[str, tuple[str, str, Any]]) -> str:
    """Who made which spans: a text, which pytest prints as a whole."""
    return "\n".join(sorted(f"{service} {name}" for service, name, _ in found.values()))


def service_of(resource: Any) -> str:
    values = {item.key: item.value.string_value for item in resource.attributes}
    return (
        values["service.name"]
        if values["service.name"] == "iii-skill"
        else values.get("telemetry.sdk.language", "")
    )


def way(found: dict[str, tuple[str, str, Any]], name: str) -> list[str]:
    """The names from the client down to the host's span of that name."""
    (span,) = [span for service, called, span in found.values() if service == "iii-skill" and called == name]
    names = []
    while span is not None:
        names.append(span.name)
        parent = found.get(span.parent_span_id.hex())
        if parent is None:
            assert span.parent_span_id.hex() == CLIENT
            return names[::-1]
        span = parent[2]
    raise AssertionError


@contextlib.contextmanager
def store_of(adapter: str, place: Path) -> Iterator[list[str]]:
    """The options that name an empty store."""
    if adapter == "redis":
        with redis_server() as redis:
            yield ["--redis-url", redis.url]
    elif adapter == "postgres":
        with postgres_server() as postgres:
            yield ["--database-url", postgres.url]
    else:
        yield ["--data-dir", str(place / "state")]


@pytest.mark.parametrize("adapter", ["file", "redis", "postgres"])
def test_a_trace_through_three_languages_the_commit_and_the_reaction(tmp_path: Path, adapter: str) -> None:
    with store_of(adapter, tmp_path) as store, collecting() as collector:
        otel = {"OTEL_ENABLED": "true"}
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        with (
            running_host(tmp_path, "--adapter", adapter, *store, env=environment) as host,
            running_worker("rust-0.25.0", tmp_path / "r", host.ws, env=otel) as rust,
            running_worker("python-0.25.0", tmp_path / "p", host.ws, env=otel, program="chain") as python,
            running_worker("node-0.22.1", tmp_path / "n", host.ws, env=otel, program="chain") as node,
        ):
            for worker in (rust, python, node):
                worker.line("registered")
            request = urllib.request.Request(
                f"{host.http}/order",
                json.dumps({"id": "o-1", "secret": "PIN 1234"}).encode(),
                {"content-type": "application/json", "traceparent": f"00-{TRACE}-{CLIENT}-01"},
            )
            until(lambda: answered(request) == {"stored": "o-1"}, lambda: "the route is not there")
            assert rust.line("event")["key"] == "o-1"
            wanted = {
                "POST /order",
                "call chain::order",
                "call chain::store",
                "call state::set",
                "commit",
                "call sdk::changed",
            }

            def complete() -> bool:
                return {
                    name for service, name, _ in spans(collector).values() if service == "iii-skill"
                } >= wanted

            until(complete, lambda: listed(spans(collector)))
            for worker in (rust, python, node):
                worker.stop()
            until(
                lambda: {s for s, _, _ in spans(collector).values()} >= {"iii-skill", "nodejs", "python"},
                lambda: listed(spans(collector)),
            )
            found = spans(collector)
            commit = way(found, "commit")
            assert [name for name in commit if name in wanted] == [
                "POST /order",
                "call chain::order",
                "call chain::store",
                "call state::set",
                "commit",
            ]
            reaction = way(found, "call sdk::changed")
            assert [name for name in reaction if name in wanted] == [
                "POST /order",
                "call chain::order",
                "call chain::store",
                "call state::set",
                "call sdk::changed",
            ]
            print(listed(found))
            assert b"PIN 1234" not in b"".join(body for path, body in collector.got if b"iii-skill" in body)
            assert host.sigterm() == 0
