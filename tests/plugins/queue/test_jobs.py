"""Named queues: order, attempts, groups, dead letters, bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.jobs import Handler, drained, enqueue, stand_still, stats, until

from iii_skill import Host, InvocationError, open_host
from iii_skill.config import CompanionSection, Config, StateConfig
from iii_skill.errors import ConfigurationError


def with_queue(**settings: Any) -> Config:
    section = CompanionSection(name="iii-queue", config=settings, where="iii-config.yaml: workers[0] config")
    return Config(state=StateConfig(adapter_name="memory"), companions=(section,))


async def test_jobs_run_in_order_with_their_data_as_it_was(host: Host) -> None:
    handler = Handler(host)
    jobs = [{"n": 9007199254740993}, [1, None], None, "text", {"a": {"b": [0.1]}}]
    for job in jobs:
        await enqueue(host, job)
    assert await handler.has(len(jobs)) == jobs
    await drained(host)


async def test_a_job_waits_for_a_function_that_is_not_there_yet(host: Host) -> None:
    await enqueue(host, 1)
    assert await stats(host) == (1, 0)
    handler = Handler(host)
    assert await handler.has(1) == [1]
    await drained(host)


async def test_a_missing_function_holds_back_no_other(host: Host) -> None:
    handler = Handler(host)
    await enqueue(host, 1, function_id="missing")
    await enqueue(host, 2)
    assert await handler.has(1) == [2]


async def test_a_failed_job_is_tried_again_and_then_a_dead_letter(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(monkeypatch)
    handler = Handler(host, fails=99)
    receipt = await enqueue(host, {"n": 1})
    await handler.has(1)
    for attempt, pause in ((2, 1.0), (3, 2.0)):
        # It stands aside, and what became of it is written.
        await drained(host)
        host.clock.advance(pause - 0.001)
        await until(lambda: not host.clock.due)
        await drained(host)
        assert len(handler.got) == attempt - 1
        host.clock.advance(0.002)
        await handler.has(attempt)
    await drained(host, dead=1)
    (letter,) = await host.trigger("engine::queue::dlq_messages", {"topic": "q"})
    assert letter.pop("failed_at") > 1_700_000_000
    assert letter == {
        "id": receipt,
        "payload": {"n": 1},
        "error": "invocation_failed: no good",
        "retries": 3,
        "size_bytes": 7,
    }
    assert await host.trigger("engine::queue::dlq_topics") == [
        {"topic": "q", "broker_type": "builtin", "message_count": 1}
    ]


async def test_a_redriven_letter_has_all_its_attempts_again(host: Host) -> None:
    handler = Handler(host, fails=99)
    await host.trigger("queue::define", {"queue": "q", "config": {"max_retries": 1}})
    first, second = await enqueue(host, 1), await enqueue(host, 2)
    await drained(host, dead=2)
    handler.fails = 0
    answer = await host.trigger("iii::queue::redrive_message", {"queue": "q", "message_id": second})
    assert answer == {"queue": "q", "message_id": second, "redriven": 1}
    assert await handler.has(3) == [1, 2, 2]
    await drained(host, dead=1)
    assert await host.trigger("iii::queue::redrive", {"queue": "q"}) == {"queue": "q", "redriven": 1}
    await handler.has(4)
    await drained(host)
    assert await host.trigger("iii::queue::redrive", {"queue": "q"}) == {"queue": "q", "redriven": 0}
    assert first != second


async def test_a_discarded_letter_is_gone(host: Host) -> None:
    Handler(host, fails=99)
    await host.trigger("queue::define", {"queue": "q", "config": {"max_retries": 1}})
    receipt = await enqueue(host, 1)
    await drained(host, dead=1)
    call = {"queue": "q", "message_id": receipt}
    assert (await host.trigger("iii::queue::discard_message", call))["redriven"] == 1
    await drained(host)
    assert (await host.trigger("iii::queue::discard_message", call))["redriven"] == 0


async def test_as_many_run_at_once_as_the_queue_says(host: Host) -> None:
    handler = Handler(host, held=True)
    await host.trigger("queue::define", {"queue": "q", "config": {"concurrency": 3}})
    for number in range(8):
        await enqueue(host, number)
    await handler.has(3)
    assert await stats(host) == (8, 0)
    handler.free.set()
    assert await handler.has(8) == list(range(8))
    assert handler.most == 3
    await drained(host)


async def test_a_fifo_queue_keeps_the_order_of_each_group_and_runs_groups_side_by_side(host: Host) -> None:
    config = {"type": "fifo", "message_group_field": "g", "backoff_ms": 0, "concurrency": 5}
    await host.trigger("queue::define", {"queue": "q", "config": config})
    handler = Handler(host, held=True)
    for number in range(3):
        for group in ("a", "b"):
            await enqueue(host, {"g": group, "n": number})
    assert sorted(job["g"] for job in await handler.has(2)) == ["a", "b"]
    handler.fails = 1
    handler.free.set()
    got = await handler.has(7)
    await drained(host)
    for group in ("a", "b"):
        numbers = [job["n"] for job in got if job["g"] == group]
        assert numbers == sorted(numbers)
        assert set(numbers) == {0, 1, 2}
    assert handler.most == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "FIFO queue 'q' requires field 'g' in data, but it was not found"),
        (5, "FIFO queue 'q' requires field 'g' in data, but it was not found"),
        ({"g": None}, "FIFO queue 'q': field 'g' must not be null"),
    ],
)
async def test_a_fifo_job_needs_its_group(data: Any, message: str) -> None:
    config = with_queue(queue_configs={"q": {"type": "fifo", "message_group_field": "g"}})
    async with open_host(config=config) as host:
        with pytest.raises(InvocationError) as caught:
            await enqueue(host, data)
        assert (caught.value.code, caught.value.message) == ("enqueue_error", message)


async def test_a_handler_that_never_answers_is_a_failed_attempt() -> None:
    config = with_queue(queue_configs={"q": {"timeout_ms": 1000, "max_retries": 1}})
    async with open_host(config=config) as host:
        handler = Handler(host, held=True)
        await enqueue(host, 1)
        await handler.has(1)
        host.clock.advance(1.1)
        await drained(host, dead=1)
        (letter,) = await host.trigger("engine::queue::dlq_messages", {"topic": "q"})
        assert letter["error"] == "TIMEOUT: no answer within 1 s"
        handler.free.set()


async def test_a_full_queue_takes_no_more() -> None:
    async with open_host(config=with_queue(max_jobs=2)) as host:
        for number in range(2):
            await enqueue(host, number)
        with pytest.raises(InvocationError, match="it holds 2 jobs") as caught:
            await enqueue(host, 3)
        assert caught.value.code == "enqueue_error"


async def test_metadata_of_the_call_is_dropped_and_the_trace_goes_on(host: Host) -> None:
    handler = Handler(host)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await enqueue(host, 1, traceparent=trace, baggage="a=b", _caller_worker_id="w")
    assert await handler.has(1) == [1]


async def test_definitions_outlive_the_host_and_a_file_counts_more(tmp_path: Any) -> None:
    store = StateConfig(adapter_name="file", adapter_config={"data_dir": str(tmp_path / "data")})
    define = {"queue": "q", "config": {"max_retries": 7}}
    async with open_host(config=Config(state=store)) as host:
        assert await host.trigger("queue::define", define) == {"queue": "q", "changed": True}
        assert await host.trigger("queue::define", define) == {"queue": "q", "changed": False}
    async with open_host(config=Config(state=store)) as host:
        assert await host.trigger("queue::define", define) == {"queue": "q", "changed": False}
    section = CompanionSection(name="iii-queue", config={"queue_configs": {"q": {"max_retries": 2}}})
    async with open_host(config=Config(state=store, companions=(section,))) as host:
        assert await host.trigger("queue::define", define) == {"queue": "q", "changed": True}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"type": "nope"}, "Queue 'q' has invalid type 'nope'. Must be 'standard' or 'fifo'"),
        ({"type": "fifo"}, "Queue 'q' is of type 'fifo' but 'message_group_field' is not set"),
        ({"concurrency": 0}, "Queue 'q' has 'concurrency' 0; it must be at least 1"),
    ],
)
async def test_a_queue_that_cannot_be(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        async with open_host(config=with_queue(queue_configs={"q": config})):
            pass
    assert refused.value.message == text
    async with open_host() as host:
        with pytest.raises(InvocationError) as caught:
            await host.trigger("queue::define", {"queue": "q", "config": config})
        assert caught.value.message == text


async def test_an_undefined_queue_is_made_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with open_host() as host:
        Handler(host)
        for number in range(3):
            await enqueue(host, number, queue="payment")
        await drained(host, "payment")
    assert caplog.text.count("queue 'payment' is defined nowhere") == 1


async def test_closing_lets_a_job_end_and_keeps_the_others(tmp_path: Any) -> None:
    settings = {"data_dir": str(tmp_path / "data")}
    async with open_host(adapter="file", adapter_config=settings) as host:
        await host.trigger("queue::define", {"queue": "q", "config": {"concurrency": 1}})
        handler = Handler(host, held=True)
        for number in range(3):
            await enqueue(host, number)
        await handler.has(1)
        closing = asyncio.ensure_future(host.close(grace_s=5))
        await asyncio.sleep(0.05)
        assert not closing.done()
        handler.free.set()
        await closing
    assert handler.got == [0]
    async with open_host(adapter="file", adapter_config=settings) as host:
        handler = Handler(host)
        assert await handler.has(2) == [1, 2]
        await drained(host)
