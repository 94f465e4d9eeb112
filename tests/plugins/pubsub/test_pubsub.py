"""Publish and subscribe: who gets a message, in which order, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.jobs import until

from iii_skill import Host, InvocationError, open_host


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with open_host() as host:
        yield host


UNREAD = "Failed to deserialize input for publish: "


class Inbox:
    """A function that keeps what it gets."""

    def __init__(self, host: Host, function_id: str) -> None:
        self.got: list[Any] = []
        self.function_id = function_id
        host.register_function(function_id, self.got.append)

    async def holds(self, *messages: Any) -> None:
        """Wait until exactly these messages are there."""
        await until(lambda: len(self.got) >= len(messages))
        assert self.got == list(messages)


async def publish(host: Host, topic: str, data: Any) -> None:
    assert await host.trigger("publish", {"topic": topic, "data": data}) is None


async def test_every_subscriber_of_the_topic_gets_the_data_as_it_is(host: Host) -> None:
    one, two, other = (Inbox(host, name) for name in ("one", "two", "other"))
    host.register_trigger("subscribe", "one", {"topic": "t"})
    host.register_trigger("subscribe", "two", {"topic": "t"})
    host.register_trigger("subscribe", "other", {"topic": "t.x"})
    messages = [{"n": 9007199254740993}, [1, None], None, "text", ""]
    for message in messages:
        await publish(host, "t", message)
    await one.holds(*messages)
    await two.holds(*messages)
    assert other.got == []


async def test_a_subscriber_that_leaves_does_not_silence_the_others(host: Host) -> None:
    inbox = Inbox(host, "stays")
    host.register_trigger("subscribe", "stays", {"topic": "t"})
    gone = host.register_trigger("subscribe", "leaves", {"topic": "t"})
    host.unregister_trigger(gone)
    await publish(host, "t", 1)
    await inbox.holds(1)


async def test_two_triggers_of_one_function_are_two_calls(host: Host) -> None:
    inbox = Inbox(host, "f")
    for _ in range(2):
        host.register_trigger("subscribe", "f", {"topic": "t"})
    await publish(host, "t", 1)
    await inbox.holds(1, 1)


async def test_a_slow_subscriber_holds_back_neither_publisher_nor_others_nor_itself(host: Host) -> None:
    free, slow, quick = asyncio.Event(), Inbox(host, "slow"), Inbox(host, "quick")

    async def wait(message: Any) -> None:
        slow.got.append(message)
        await free.wait()

    host.register_function("slow", wait)
    for name in ("slow", "quick"):
        host.register_trigger("subscribe", name, {"topic": "t"})
    for number in range(3):
        await publish(host, "t", number)
    await quick.holds(0, 1, 2)
    await slow.holds(0, 1, 2)
    free.set()


@pytest.mark.parametrize("config", [{}, None, {"topic": 7}, {"topic": None}, []])
async def test_a_subscription_without_a_topic_is_accepted_and_gets_nothing(
    host: Host, config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(host, "f")
    host.register_trigger("subscribe", "f", config)
    await publish(host, "7", 1)
    await asyncio.sleep(0)
    assert inbox.got == []
    assert "the subscription of f names no topic" in caplog.text


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        ({}, "deserialization_error", "Failed to deserialize input for publish: missing field `topic`"),
        (
            {"topic": "t"},
            "deserialization_error",
            "Failed to deserialize input for publish: missing field `data`",
        ),
        ({"topic": "", "data": 1}, "topic_not_set", "Topic is not set"),
    ],
)
async def test_a_message_that_cannot_be_published(host: Host, payload: Any, code: str, message: str) -> None:
    with pytest.raises(InvocationError) as caught:
        await host.trigger("publish", payload)
    assert (caught.value.code, caught.value.message) == (code, message)


async def test_a_failing_subscriber_is_logged_and_nobody_else_hears_of_it(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(host, "good")
    host.register_trigger("subscribe", "missing", {"topic": "t"})
    host.register_trigger("subscribe", "good", {"topic": "t"})
    await publish(host, "t", 1)
    await inbox.holds(1)
    await until(lambda: "handler missing of" in caplog.text)


async def test_an_observer_of_publish_hears_its_topic_and_no_refused_call(host: Host) -> None:
    inbox, old = Inbox(host, "observes"), Inbox(host, "subscribes")
    host.register_trigger("subscribe", "subscribes", {"topic": "t"})
    observer = await host.observe(
        "publish", "observes", filters={"input.topic": {"$eq": "t"}}, deliver="input"
    )
    assert observer.state == "active"
    with pytest.raises(InvocationError):
        await host.trigger("publish", {"data": 1})
    await publish(host, "other", 1)
    await publish(host, "t", {"n": 9007199254740993})
    await publish(host, "t", None)
    await old.holds({"n": 9007199254740993}, None)
    await inbox.holds(
        {"topic": "t", "data": {"n": 9007199254740993}},
        {"topic": "t", "data": None},
    )
