"""Topics: a copy for each function, also for those that are away, and nothing before it is durable."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from iii_queue.parked import Parked
from iii_queue.queues import Queues
from iii_queue.topics import Topics, TopicSubscriber
from iii_queue.work_queue import WorkQueue
from support.client import raw_client
from support.jobs import Handler, drained, publish, stand_still, stats, until

from iii_skill import Host, InvocationError, open_host
from iii_skill.config import CompanionSection, Config, StateConfig
from iii_skill.errors import AdapterUnavailable


def subscribe(host: Host, function_id: str = "work", topic: str = "t", **config: Any) -> str:
    return host.register_trigger("durable:subscriber", function_id, {"topic": topic, **config})


async def test_each_function_gets_each_message_once(host: Host) -> None:
    one, two = Handler(host, "one"), Handler(host, "two")
    for function_id in ("one", "two", "one"):
        subscribe(host, function_id)
    messages = [{"n": 9007199254740993}, None, [1]]
    for message in messages:
        await publish(host, message)
    assert await one.has(3) == messages
    assert await two.has(3) == messages
    await drained(host, "t")
    answer = await host.trigger("engine::queue::topic_stats", {"topic": "t"})
    assert answer == {"depth": 0, "consumer_count": 3, "dlq_depth": 0, "config": None}


async def test_a_subscription_that_ends_costs_the_same_however_many_there_are(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with many of them leaves in one turn of the loop, in which nobody else is served."""
    handler = Handler(host)
    triggers = [subscribe(host, queue_config={"maxRetries": number + 1}) for number in range(200)]
    looked: list[WorkQueue] = []
    found = Queues.of_subscriber

    def counted(queues: Queues, subscriber: TopicSubscriber) -> WorkQueue:
        looked.append(found(queues, subscriber))
        return looked[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Queues, "of_subscriber", counted)
        for trigger in triggers[2:]:
            host.unregister_trigger(trigger)
    assert len(looked) <= len(triggers)
    # What is left runs as the one says that came last of those that are still there.
    host.unregister_trigger(triggers[0])
    assert looked[-1].limits.attempts == 3  # maxRetries 2
    topics = await host.trigger("engine::queue::list_topics", {})
    assert topics == [{"name": "t", "broker_type": "builtin", "subscriber_count": 1}]
    await publish(host, "m")
    assert await handler.has(1) == ["m"]


async def test_functions_that_come_together_wake_the_queues_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        subscribe(host, "work", f"topic-{number}")
        await publish(host, number, f"topic-{number}")
    woken: list[WorkQueue] = []
    wake = WorkQueue.wake

    def counted(queue: WorkQueue) -> None:
        woken.append(queue)
        wake(queue)

    monkeypatch.setattr(WorkQueue, "wake", counted)
    handler = Handler(host)
    for number in range(50):
        host.register_function(f"other-{number}", handler)
    assert sorted(await handler.has(20)) == list(range(20))
    assert len(woken) == 20


async def test_messages_before_the_first_subscriber_wait_for_it_in_order(host: Host) -> None:
    for number in range(20):
        await publish(host, number)
    assert await stats(host, "t") == (20, 0)
    handler = Handler(host)
    subscribe(host, queue_config={"type": "fifo"})
    await publish(host, 20)
    assert await handler.has(21) == list(range(21))
    await drained(host, "t")


async def test_messages_while_the_only_subscriber_is_away_wait_for_it(host: Host) -> None:
    handler = Handler(host)
    trigger = subscribe(host)
    await publish(host, 1)
    await handler.has(1)
    host.unregister_trigger(trigger)
    await publish(host, 2)
    await publish(host, 3)
    # The function is there, but nobody subscribes with it.
    await asyncio.sleep(0.05)
    assert handler.got == [1]
    subscribe(host)
    assert await handler.has(3) == [1, 2, 3]


async def test_messages_and_subscribers_outlive_the_host(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "data")}
    async with open_host(adapter="file", adapter_config=settings) as host:
        Handler(host)
        subscribe(host)
        await publish(host, 1)
        await drained(host, "t")
    async with open_host(adapter="file", adapter_config=settings) as host:
        await publish(host, 2)
        handler = Handler(host)
        subscribe(host)
        assert await handler.has(1) == [2]


async def test_a_subscriber_that_stays_away_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    section = CompanionSection(name="iii-queue", config={"subscriber_retention_ms": 60_000})
    config = Config(state=StateConfig(adapter_name="memory"), companions=(section,))
    async with open_host(config=config) as host:
        trigger = subscribe(host, "gone")
        host.unregister_trigger(trigger)
        await publish(host, 1)
        host.clock.advance(61)
        await publish(host, 2)
        await until(lambda: "1 messages that waited for it are dropped" in caplog.text)
        handler = Handler(host)
        subscribe(host)
        assert await handler.has(1) == [2]


def kept_for(seconds: int, directory: Path) -> Config:
    section = CompanionSection(name="iii-queue", config={"subscriber_retention_ms": seconds * 1000})
    state = StateConfig(adapter_name="file", adapter_config={"data_dir": str(directory / "data")})
    return Config(state=state, companions=(section,))


async def test_a_subscriber_that_comes_back_late_is_remembered(tmp_path: Path) -> None:
    async with open_host(config=kept_for(60, tmp_path)) as host:
        subscribe(host, "other")
        host.unregister_trigger(subscribe(host, "late"))
        await publish(host, 1)
        host.clock.advance(61)
        late = Handler(host, "late")
        subscribe(host, "late")
        # Nobody had looked: it gets what has waited.
        assert await late.has(1) == [1]
    async with open_host(config=kept_for(60, tmp_path)) as host:
        await publish(host, 2)
        late = Handler(host, "late")
        subscribe(host, "late")
        assert await late.has(1) == [2]


async def test_a_subscriber_that_comes_back_while_it_is_forgotten_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purging, go_on = asyncio.Event(), asyncio.Event()
    purge = WorkQueue.purge

    async def slow(queue: WorkQueue) -> None:
        purging.set()
        await go_on.wait()
        await purge(queue)

    monkeypatch.setattr(WorkQueue, "purge", slow)
    async with open_host(config=kept_for(60, tmp_path)) as host:
        subscribe(host, "other")
        host.unregister_trigger(subscribe(host, "late"))
        host.clock.advance(61)
        await publish(host, 1)
        await purging.wait()
        subscribe(host, "late")
        go_on.set()
        await until(lambda: not any("_forget_subscriber" in str(task) for task in asyncio.all_tasks()))
    async with open_host(config=kept_for(60, tmp_path)) as host:
        await publish(host, 2)
        late = Handler(host, "late")
        subscribe(host, "late")
        assert await late.has(1) == [2]


async def test_a_subscriber_that_was_there_until_the_host_ended_was_not_away(tmp_path: Path) -> None:
    """However long ago it came: the host may have run for months."""
    async with open_host(config=kept_for(60, tmp_path)) as host:
        subscribe(host, "other")
        subscribe(host)
        for _ in range(10):
            host.clock.advance(20)
            await until(lambda: not host.clock.due)
    async with open_host(config=kept_for(60, tmp_path)) as host:
        host.clock.advance(210)
        subscribe(host, "other")
        await publish(host, 1)
        handler = Handler(host)
        subscribe(host)
        assert await handler.has(1) == [1]


async def test_what_was_not_handed_over_to_the_end_is_handed_over_by_the_next_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over, stuck = Parked._hand_over, asyncio.Event()

    async def one_alone(parked: Parked, *given: Any) -> None:
        if given[1].startswith("0" * 15 + "1-"):
            await hand_over(parked, *given)
            return
        stuck.set()
        await asyncio.Event().wait()

    async with open_host(config=kept_for(60, tmp_path)) as host:
        for number in range(5):
            await publish(host, number)
        with monkeypatch.context() as patch:
            patch.setattr(Parked, "_hand_over", one_alone)
            subscribe(host)
            await stuck.wait()
            await host.close()
    async with open_host(config=kept_for(60, tmp_path)) as host:
        handler = Handler(host)
        subscribe(host, queue_config={"type": "fifo"})
        assert await handler.has(5) == [0, 1, 2, 3, 4]


async def test_messages_are_handed_over_once_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hand_over, refused = Parked._hand_over, iter([True, True])

    async def refusing(parked: Parked, *given: Any) -> None:
        if given[1].startswith("0" * 15 + "2-") and next(refused, False):
            raise AdapterUnavailable("The store is away.")
        await hand_over(parked, *given)

    monkeypatch.setattr(Parked, "_hand_over", refusing)
    async with open_host() as host:
        for number in range(3):
            await publish(host, number)
        handler = Handler(host)
        subscribe(host, queue_config={"type": "fifo"})
        assert await handler.has(3) == [0, 1, 2]
    assert caplog.text.count("messages of topic 't' still wait: The store is away.") == 1


async def test_a_message_that_could_not_be_stored_keeps_nobody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    hand_over = Parked._hand_over_stored

    async def counted(parked: Parked, subscriber: TopicSubscriber) -> bool:
        listed.append(subscriber)
        return await hand_over(parked, subscriber)

    monkeypatch.setattr(Parked, "_hand_over_stored", counted)
    async with open_host() as host:
        await publish(host, 0)

        def away(*_given: Any) -> None:
            raise AdapterUnavailable("The store is away.")

        with monkeypatch.context() as patch:
            patch.setattr(type(host.adapter), "set", away)
            with pytest.raises(InvocationError, match="The store is away"):
                await publish(host, 1)
        handler = Handler(host)
        subscribe(host)
        assert await handler.has(1) == [0]
        await publish(host, 2)
        assert await handler.has(2) == [0, 2]
        # Ten turns of the loop, in which nothing is left to hand over.
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(listed) == 1


async def test_a_store_that_raises_at_once_costs_the_queue_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    section = CompanionSection(name="iii-queue", config={"max_jobs": 1})
    config = Config(state=StateConfig(adapter_name="memory"), companions=(section,))

    def away(*_given: Any) -> None:
        raise AdapterUnavailable("The store is away.")

    async with open_host(config=config) as host:
        handler = Handler(host)
        subscribe(host)
        with monkeypatch.context() as patch:
            patch.setattr(type(host.adapter), "set", away)
            for _ in range(2):
                with pytest.raises(InvocationError, match="The store is away") as caught:
                    await publish(host, 1)
                assert caught.value.code == "enqueue_error"
        await publish(host, 2)
        assert await handler.has(1) == [2]


async def test_a_subscriber_looks_at_one_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    is_subscribed = Topics.is_subscribed

    def counted(topics: Topics, subscriber: TopicSubscriber) -> bool:
        looked.append(subscriber)
        return is_subscribed(topics, subscriber)

    monkeypatch.setattr(Topics, "is_subscribed", counted)
    for number in range(100):
        subscribe(host, f"work-{number}")
    # Later than it would remember who is away: it has to look who is there.
    host.clock.advance(8 * 86_400)
    for number in range(100, 200):
        subscribe(host, f"work-{number}")
    assert len(looked) <= 200


async def test_messages_of_a_topic_without_subscribers_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    section = CompanionSection(name="iii-queue", config={"max_parked": 3})
    config = Config(state=StateConfig(adapter_name="memory"), companions=(section,))
    async with open_host(config=config) as host:
        for number in range(5):
            await publish(host, number)
        handler = Handler(host)
        subscribe(host, queue_config={"type": "fifo"})
        assert await handler.has(3) == [2, 3, 4]
    assert caplog.text.count("of its messages the last 3 are kept") == 1


@pytest.mark.parametrize(
    ("config", "attempts"),
    [
        ({}, 3),
        ({"queue_config": {"maxRetries": 0}}, 1),
        ({"queue_config": {"maxRetries": 1}}, 2),
        ({"queue_config": {"maxRetries": "1"}}, 3),
        ({"max_retries": 2}, 2),
        ({"queue_config": None}, 3),
    ],
)
async def test_attempts_of_a_subscriber(
    config: dict[str, Any], attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(monkeypatch)
    async with open_host() as host:
        handler = Handler(host, fails=99)
        subscribe(host, **config)
        await publish(host, 1)
        for attempt in range(1, attempts):
            await handler.has(attempt)
            # It stands aside, and what became of it is written.
            await drained(host, "t")
            host.clock.advance(2**attempt)
        await handler.has(attempts)
        await drained(host, "t", dead=1)


async def test_a_fifo_subscriber_retries_in_place(host: Host) -> None:
    handler = Handler(host, fails=2)
    subscribe(host, queue_config={"type": "fifo", "backoffDelayMs": 1})
    for number in range(3):
        await publish(host, number)
    assert await handler.has(5) == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("verdict", "calls", "dead"), [(False, 0, 0), (0, 1, 0), (None, 1, 0), ("raise", 0, 1)]
)
async def test_a_condition_skips_with_false_and_fails_with_an_error(
    verdict: Any, calls: int, dead: int
) -> None:
    async with open_host() as host:
        asked: list[Any] = []

        def condition(message: Any) -> Any:
            asked.append(message)
            if verdict == "raise":
                raise ValueError("broken")
            return verdict

        handler = Handler(host)
        host.register_function("may", condition)
        subscribe(host, condition_function_id="may", queue_config={"maxRetries": 0})
        await publish(host, {"n": 1})
        await drained(host, "t", dead=dead)
        assert asked == [{"n": 1}]
        assert len(handler.got) == calls
        if dead:
            (letter,) = await host.trigger("engine::queue::dlq_messages", {"topic": "t"})
            assert letter["error"] == "Condition function error: invocation_failed: broken"


async def test_the_old_names_mean_the_same(host: Host) -> None:
    handler = Handler(host)
    host.register_trigger("queue", "work", {"queue": "t"})
    await host.trigger("enqueue", {"topic": "t", "data": 1})
    await host.trigger("iii::durable::publish", {"queue": "t", "data": 2})
    assert await handler.has(2) == [1, 2]


@pytest.mark.parametrize("config", [{}, None, {"topic": 5}, {"topic": ""}, []])
async def test_a_subscription_without_a_topic_is_inert(config: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with open_host() as host:
        host.register_trigger("durable:subscriber", "work", config)
        assert "the subscription of work names no topic" in caplog.text
        rows = await host.trigger("engine::queue::list_topics")
        assert rows == []


@pytest.mark.parametrize(
    ("function_id", "payload", "code"),
    [
        ("iii::durable::publish", {"topic": "", "data": 1}, "topic_not_set"),
        ("iii::durable::publish", {"topic": "t"}, "deserialization_error"),
        ("iii::queue::redrive", {"queue": ""}, "queue_not_set"),
        ("iii::queue::redrive_message", {"queue": "q", "message_id": ""}, "message_id_not_set"),
        ("engine::queue::topic_stats", {}, "topic_required"),
        ("engine::queue::dlq_messages", {"topic": ""}, "topic_required"),
        ("engine::queue::dlq_messages", {"topic": "t", "limit": -1}, "deserialization_error"),
        ("engine::queue::enqueue", {"queue": "q"}, "deserialization_error"),
    ],
)
async def test_calls_that_lack_something(function_id: str, payload: Any, code: str) -> None:
    async with open_host() as host:
        with pytest.raises(InvocationError) as caught:
            await host.trigger(function_id, payload)
        assert caught.value.code == code


async def test_job_and_condition_come_with_ids_that_every_sdk_reads() -> None:
    """The Rust SDK drops a frame whose invocation id is no UUID."""
    async with open_host() as host:
        served = await host.serve(port=0, http_port=0)
        async with raw_client(served.ws_url) as worker:
            await worker.register("work")
            await worker.register("may")
            config = {"topic": "t", "condition_function_id": "may"}
            await worker.result(
                "engine::register_trigger",
                {"trigger_type": "durable:subscriber", "function_id": "work", "config": config},
            )
            await publish(host, 1)
            for function_id in ("may", "work"):
                message = await worker.wait_for("invokefunction", function_id=function_id)
                assert str(uuid.UUID(message["invocation_id"])) == message["invocation_id"]
                answer = {"type": "invocationresult", "function_id": function_id, "result": True}
                await worker.send({**answer, "invocation_id": message["invocation_id"]})
            await drained(host, "t")
