"""Traces: which calls are recorded, what a span says, and that nothing of it changes what callers see."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from support import redis
from support.jobs import until

from iii_skill import InvocationError, open_host
from iii_skill.host import Host
from iii_skill.traces import BATCH, Sampler, Tracer, sampler_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = PARENT[:-1] + "0"


class Sent:
    """What a tracer handed on."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, int]] = []

    def take(self, frame: bytes, spans: int) -> None:
        self.frames.append((frame, spans))

    @property
    def spans(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for frame, count in self.frames:
            assert frame[:4] == b"OTLP"
            (resource,) = json.loads(frame[4:])["resourceSpans"]
            (scope,) = resource["scopeSpans"]
            assert len(scope["spans"]) == count <= BATCH
            found += scope["spans"]
        return found


def traced(host: Host, *, by_parent: bool = True, ratio: float = 1.0) -> Sent:
    sent = Sent()
    host.engine.tracer = Tracer(Sampler(by_parent=by_parent, ratio=ratio), sent.take)
    return sent


def attributes(span: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"]["stringValue"] for item in span["attributes"]}


@pytest.mark.parametrize(
    ("sampler", "argument", "sampled", "unsampled", "root"),
    [
        ("", "", True, False, True),
        ("always_on", "", True, True, True),
        ("parentbased_always_off", "", True, False, False),
        ("parentbased_traceidratio", "0", True, False, False),
        ("traceidratio", "0", False, False, False),
        ("traceidratio", "1", True, True, True),
    ],
)
def test_the_variables_of_opentelemetry_choose(
    sampler: str, argument: str, sampled: bool, unsampled: bool, root: bool
) -> None:
    found = sampler_of({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert found is not None
    assert [found.takes(PARENT), found.takes(UNSAMPLED), found.gap() == 0] == [sampled, unsampled, root]


def test_always_off_records_nothing() -> None:
    assert sampler_of({"OTEL_TRACES_SAMPLER": "always_off"}) is None


@pytest.mark.parametrize("ratio", ["5e-324", "1e-300", "1e-17", "0.9999999999999999"])
def test_any_ratio_has_a_gap(ratio: str) -> None:
    found = sampler_of({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio})
    assert found is not None
    assert all(found.gap() >= 0 for _ in range(1_000))


def test_a_ratio_takes_its_share_and_every_host_the_same() -> None:
    sampler = Sampler(by_parent=False, ratio=0.01)
    parents = [
        f"00-{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}-{1:016x}-01"
        for number in range(20_000)
    ]
    taken = [parent for parent in parents if sampler.takes(parent)]
    assert 120 < len(taken) < 280
    wider = Sampler(by_parent=False, ratio=0.5)
    assert all(wider.takes(parent) for parent in taken)


async def test_of_traces_that_begin_here_a_ratio_takes_its_share() -> None:
    tracer = Tracer(Sampler(by_parent=True, ratio=0.01), lambda _frame, _spans: None)
    assert 120 < sum(tracer.begins() for _ in range(20_000)) < 280


async def test_of_calls_without_a_trace_the_engine_takes_the_same_share() -> None:
    async with open_host(adapter="memory") as host:
        sent = Sent()
        host.engine.tracer = Tracer(Sampler(by_parent=True, ratio=0.25), sent.take)
        for _ in range(400):
            await host.trigger("state::get", {"scope": "s", "key": "k"})
        host.engine.tracer.flush()
    assert 50 < len(sent.spans) < 150


@pytest.mark.parametrize("variables", [{"OTEL_TRACES_SAMPLER": "xray"}, {"OTEL_TRACES_SAMPLER_ARG": "nan"}])
def test_nonsense_is_named(variables: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    found = sampler_of(variables)
    assert found is not None
    assert found.takes(PARENT)
    assert next(iter(variables)) in caplog.text


async def test_spans_of_calls_that_succeed_fail_and_are_void() -> None:
    async with open_host(adapter="memory") as host:
        sent = traced(host)

        def fail(_payload: Any) -> None:
            raise InvocationError("no", code="OUT_OF_STOCK")

        host.register_function("shop::fail", fail)
        await host.trigger("state::set", {"scope": "shop", "key": "k", "value": "secret"})
        with pytest.raises(InvocationError, match="no"):
            await host.trigger("shop::fail")
        with pytest.raises(InvocationError):
            await host.trigger("shop::missing")
        await host.trigger("engine::functions::list")
        host.engine.tracer.flush()  # type: ignore[union-attr]
        set_, fail_, missing = sent.spans
    assert set_["name"] == "call state::set"
    assert attributes(set_) == {
        "iii.function.id": "state::set",
        "db.system.name": "iii",
        "db.operation.name": "set",
        "db.collection.name": "shop",
    }
    assert "parentSpanId" not in set_
    assert int(set_["startTimeUnixNano"]) <= int(set_["endTimeUnixNano"])
    assert [span["status"]["message"] for span in (fail_, missing)] == ["OUT_OF_STOCK", "function_not_found"]
    assert "secret" not in str(sent.frames)


async def test_a_call_that_nobody_waits_for_any_more_ends_its_span() -> None:
    async with open_host(adapter="memory") as host:
        sent = traced(host)
        never = asyncio.Event()

        async def hang(_payload: Any) -> None:
            await never.wait()

        host.register_function("shop::hang", hang)
        with pytest.raises(InvocationError, match="timed out"):
            await host.trigger("shop::hang", timeout=0.05)
        never.set()
        await until(lambda: not host.engine.busy)
        host.engine.tracer.flush()  # type: ignore[union-attr]
        (span,) = sent.spans
    assert span["status"]["message"] == "TIMEOUT"


async def test_a_reaction_and_what_it_calls_belong_to_the_trace_of_the_write() -> None:
    async with open_host(adapter="memory") as host:
        sent = traced(host)
        seen = asyncio.Event()

        async def react(event: dict[str, Any]) -> None:
            await host.trigger("state::set", {"scope": "log", "key": event["key"], "value": 1})
            seen.set()

        host.register_function("shop::react", react)
        host.register_trigger("state", "shop::react", {"scope": "shop"})
        await host.trigger("state::set", {"scope": "shop", "key": "k", "value": 1})
        await seen.wait()
        await until(lambda: not host.engine.busy)
        host.engine.tracer.flush()  # type: ignore[union-attr]
        spans = {attributes(span).get("db.collection.name") or span["name"]: span for span in sent.spans}
    assert set(spans) == {"shop", "log", "call shop::react"}
    assert spans["call shop::react"]["parentSpanId"] == spans["shop"]["spanId"]
    assert spans["log"]["parentSpanId"] == spans["call shop::react"]["spanId"]
    assert len({span["traceId"] for span in spans.values()}) == 1


async def test_the_reactions_of_a_shared_store_belong_to_the_traces_of_their_writes() -> None:
    async with open_host(adapter="redis", adapter_config=redis.settings()) as host:
        sent = traced(host)
        reacted: set[str] = set()
        host.register_function("shop::react", lambda event: reacted.add(event["key"]))
        host.register_trigger("state", "shop::react", {"scope": "shop"})
        keys = {f"k{number}" for number in range(200)}
        for key in sorted(keys):
            await host.trigger("state::set", {"scope": "shop", "key": key, "value": 1})
            # Whoever follows the stream waits for the next change then.
            await asyncio.sleep(0.004)
        async with asyncio.timeout(20):
            while reacted != keys or host.engine.busy:
                await asyncio.sleep(0.01)
        host.engine.tracer.flush()  # type: ignore[union-attr]
        writes = {span["spanId"] for span in sent.spans if span["name"] == "call state::set"}
        reactions = [span.get("parentSpanId") for span in sent.spans if span["name"] == "call shop::react"]
    # The stream of the store tells of a good part of them before they are answered.
    assert len(reactions) == len(keys)
    assert set(reactions) == writes


async def test_batches_leave_when_they_are_full_and_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_host(adapter="memory") as host:
        sent = traced(host)
        with monkeypatch.context() as patch:
            # That second is not over before the batch is full, however slow the machine is.
            patch.setattr("iii_skill.traces.EVERY_S", 3600.0)
            for _ in range(BATCH):
                await host.trigger("state::get", {"scope": "shop", "key": "k"})
            assert [spans for _, spans in sent.frames] == [BATCH]
        await host.trigger("state::get", {"scope": "shop", "key": "k"})
        await until(lambda: len(sent.frames) == 2)
        assert [spans for _, spans in sent.frames] == [BATCH, 1]


async def test_what_is_not_sampled_costs_no_span(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with open_host(adapter="memory") as host:
        sent = traced(host, ratio=0.0)
        await host.trigger("state::set", {"scope": "shop", "key": "k", "value": 1})
        host.engine.tracer.flush()  # type: ignore[union-attr]
        assert sent.frames == []
    assert caplog.text == ""
