"""`queue::on-message`: an observer subscribes to a topic; its target's answer decides about the message."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from support import redis
from support.jobs import Handler, drained, publish, stats, until
from support.observing import Party

from iii_skill import Host, InvocationError, open_host
from iii_skill.errors import CallerError

ON_MESSAGE = "queue::on-message"


async def test_each_message_is_one_call_through_the_observer(host: Host) -> None:
    handler = Handler(host)
    observer = await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
    assert (observer.state, observer.warnings) == ("active", [])
    messages = [{"n": 9007199254740993}, None, [1]]
    for message in messages:
        await publish(host, message)
    assert await handler.has(3) == messages
    await drained(host, "t")
    assert (observer.fires, observer.dropped) == (3, {})
    view = (await host.trigger("engine::observers::get", {"id": observer.id}))["observer"]
    assert view["in_flight"] == 0


async def test_an_error_is_tried_again_and_then_a_dead_letter(host: Host) -> None:
    handler = Handler(host, fails=3)
    await host.observe(ON_MESSAGE, "work", args={"topic": "t", "max_retries": 2, "backoff_ms": 0})
    await publish(host, "bad")
    await handler.has(2)
    await drained(host, "t", dead=1)
    letters = await host.trigger("engine::queue::dlq_messages", {"topic": "t"})
    (letter,) = letters["messages"] if isinstance(letters, dict) else letters
    assert letter["payload"] == "bad"
    assert "no good" in letter["error"]
    handler.fails = 0
    await publish(host, "good")
    assert await handler.has(3) == ["bad", "bad", "good"]
    await drained(host, "t", dead=1)


async def test_messages_wait_for_the_first_observer_and_while_it_is_away(host: Host) -> None:
    await publish(host, 1)
    handler = Handler(host)
    observer = await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
    await handler.has(1)
    await drained(host, "t")
    assert observer.unobserve()
    await publish(host, 2)
    assert await stats(host, "t") == (1, 0)
    await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
    assert await handler.has(2) == [1, 2]


async def test_an_observer_and_a_trigger_of_one_function_are_one_subscriber(host: Host) -> None:
    handler, other = Handler(host), Handler(host, "other")
    host.register_trigger("durable:subscriber", "work", {"topic": "t"})
    observer = await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
    await host.observe(ON_MESSAGE, "other", args={"topic": "t"})
    await publish(host, 1)
    await handler.has(1)
    await other.has(1)
    await drained(host, "t")
    assert observer.fires == 0


async def test_a_message_that_no_filter_wants_is_done_without_a_call(host: Host) -> None:
    handler = Handler(host)
    for wanted in ("a", "b"):
        await host.observe(ON_MESSAGE, "work", args={"topic": "t"}, filters={"input.kind": {"$eq": wanted}})
    for kind in ("c", "b", "a"):
        await publish(host, {"kind": kind})
    await handler.has(2)
    await drained(host, "t")
    assert sorted(message["kind"] for message in handler.got) == ["a", "b"]


async def test_max_in_flight_bounds_what_is_out_and_loses_nothing(host: Host) -> None:
    handler = Handler(host, held=True)
    bound = await host.observe(ON_MESSAGE, "work", args={"topic": "t"}, max_in_flight=1)
    # The second one has room, but wants another message.
    await host.observe(
        ON_MESSAGE, "work", args={"topic": "t"}, filters={"input": {"$eq": "never"}}, max_in_flight=5
    )
    for number in range(3):
        await publish(host, number)
    # The second message may find no room before the first has come to the function.
    await until(lambda: bound.dropped.get("OVERFLOW") and handler.got)
    assert len(handler.got) == 1
    handler.free.set()
    await handler.has(3)
    await drained(host, "t")
    assert handler.most == 1
    assert sorted(handler.got) == [0, 1, 2]


async def test_an_observer_at_its_end_leaves_the_rest_in_the_queue(host: Host) -> None:
    handler = Handler(host)
    config = {"topic": "t", "queue_config": {"type": "fifo"}}
    observer = await host.observe(ON_MESSAGE, "work", args=config, max_fires=2)
    for number in range(4):
        await publish(host, number)
    await handler.has(2)
    await until(lambda: observer.state == "disposed")
    await host.observe(ON_MESSAGE, "work", args=config)
    assert await handler.has(4) == [0, 1, 2, 3]
    await drained(host, "t")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (None, "topic"),
        ({}, "topic"),
        ({"topic": ""}, "topic"),
        ({"topic": 5}, "topic"),
        ({"topic": "t", "group": "g"}, "group"),
        ({"topic": "t", "max_retries": "many"}, "max_retries"),
        ({"topic": "t", "backoff_ms": -1}, "backoff_ms"),
    ],
)
async def test_args_that_are_none_are_refused(args: Any, says: str) -> None:
    async with open_host() as host:
        with pytest.raises(CallerError) as refused:
            await host.observe(ON_MESSAGE, "work", args=args)
        assert refused.value.code == "INVALID_ARGS"
        assert says in refused.value.message


async def test_nobody_calls_it() -> None:
    async with open_host() as host:
        with pytest.raises(InvocationError) as refused:
            await host.trigger(ON_MESSAGE, {"topic": "t"})
        assert refused.value.code == "FORBIDDEN"


async def test_messages_outlive_the_host_for_the_observer_that_comes_back(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "data")}
    async with open_host(adapter="file", adapter_config=settings) as host:
        handler = Handler(host)
        await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
        await publish(host, 1)
        await handler.has(1)
        await drained(host, "t")
    async with open_host(adapter="file", adapter_config=settings) as host:
        await publish(host, 2)
        handler = Handler(host)
        assert handler.got == []
        await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
        assert await handler.has(1) == [2]


async def test_hosts_that_share_a_store_share_the_messages_of_one_target() -> None:
    settings = redis.settings()
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(open_host(adapter="redis", adapter_config=settings))
            for _ in range(2)
        ]
        handlers = [Handler(host) for host in hosts]
        for host in hosts:
            await host.observe(ON_MESSAGE, "work", args={"topic": "t"})
        for number in range(30):
            await publish(hosts[number % 2], number)
        await drained(hosts[0], "t")
        await drained(hosts[1], "t")
        assert sorted(handlers[0].got + handlers[1].got) == list(range(30))


async def test_a_worker_gets_the_message_with_the_observers_metadata_and_its_error_counts() -> None:
    async with open_host() as host:
        worker = Party(host.engine, "worker")
        worker.register("w::take")
        args = {"topic": "t", "max_retries": 1}
        observer_id = worker.observe(ON_MESSAGE, "w::take", args=args, metadata={"m": 1})
        assert worker.states() == [("active", None)]
        worker.observe(ON_MESSAGE, "w::take", args={})
        assert worker.states() == [("error", "INVALID_ARGS")]
        for number in range(2):
            await publish(host, number)
        calls: list[Any] = []
        await until(lambda: calls.extend(worker.calls()) or len(calls) == 2)
        assert [call["data"] for call in calls] == [0, 1]
        assert all(call["metadata"] == {"m": 1} for call in calls)
        assert worker.shown(observer_id)["in_flight"] == 2
        worker.answer(calls[0], result=None)
        worker.answer(calls[1], error={"code": "BAD", "message": "no"})
        await drained(host, "t", dead=1)
        shown = worker.shown(observer_id)
        assert (shown["fires"], shown["in_flight"]) == (2, 0)
