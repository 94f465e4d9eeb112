"""The rules of channels, without sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.engine.channel import MAX_BUFFERED_BYTES, Channel, Message
from iii_skill.engine.channels import Channels, Offer


class End:
    """Either end; remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def resume(self) -> None:
        self.events.append("resume")

    def dropped(self) -> None:
        self.events.append("dropped")

    def notify(self) -> None:
        self.events.append("notify")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def drain(channel: Channel) -> list[Message]:
    taken = []
    while (message := channel.take()) is not None:
        taken.append(message)
    return taken


def create(channels: Channels, payload: Any) -> Outcome:
    outcomes: list[Outcome] = []
    channels.handle_create(Call("engine::channels::create", json.dumps(payload).encode(), outcomes.append))
    return outcomes[0]


def test_messages_pass_in_order_text_and_binary() -> None:
    channel = Channel()
    for message in ("a", b"b", "c"):
        channel.send(message)
    assert drain(channel) == ["a", b"b", "c"]


def test_each_end_is_taken_once() -> None:
    channel = Channel()
    assert channel.attach_writer(End())
    assert channel.attach_reader(End())
    assert not channel.attach_writer(End())
    assert not channel.attach_reader(End())


def test_a_full_queue_holds_the_writer_until_half_is_taken() -> None:
    channel, writer = Channel(4), End()
    channel.attach_writer(writer)
    assert [channel.send(b"x") for _ in range(4)] == [True, True, True, False]
    channel.take()
    assert writer.events == []
    channel.take()
    assert writer.events == ["resume"]
    assert channel.send(b"x")


def test_few_large_messages_fill_a_queue_too() -> None:
    channel, writer = Channel(64), End()
    channel.attach_writer(writer)
    half = bytes(MAX_BUFFERED_BYTES // 2)
    assert channel.send(half)
    assert not channel.send(half)
    drain(channel)
    assert writer.events == ["resume"]


def test_a_reader_is_told_of_each_message_and_of_the_end() -> None:
    channel, reader = Channel(), End()
    channel.attach_reader(reader)
    channel.send("a")
    channel.finish()
    channel.finish()
    assert reader.events == ["notify", "notify"]
    assert not channel.drained
    assert drain(channel) == ["a"]
    assert channel.drained


def test_a_reader_may_come_after_the_writer_has_finished() -> None:
    ended: list[int] = []
    channel = Channel(on_end=lambda: ended.append(1))
    channel.send("a")
    channel.finish()
    assert channel.attach_reader(End())
    assert (drain(channel), channel.drained, ended) == (["a"], True, [1])


def test_an_empty_channel_that_finished_waits_for_its_reader() -> None:
    ended: list[int] = []
    channel = Channel(on_end=lambda: ended.append(1))
    channel.finish()
    assert ended == []
    channel.attach_reader(End())
    assert (channel.drained, ended) == (True, [1])


def test_when_the_reader_leaves_the_writer_is_told_and_nothing_is_kept() -> None:
    channel, writer = Channel(1), End()
    channel.attach_writer(writer)
    assert not channel.send(b"x")
    channel.leave()
    channel.leave()
    assert writer.events == ["dropped"]
    assert channel.send(b"y")
    assert channel.take() is None


def test_an_abort_drops_what_is_queued() -> None:
    channel, reader = Channel(), End()
    channel.attach_reader(reader)
    channel.send(b"x")
    channel.abort()
    assert channel.take() is None
    assert channel.drained
    assert channel.aborted


def test_create_gives_a_writer_and_a_reader_of_one_channel() -> None:
    channels = Channels()
    outcome = create(channels, {})
    assert isinstance(outcome, Result)
    refs = json.loads(outcome.value or b"")
    assert list(refs) == ["writer", "reader"]
    assert refs["writer"]["direction"] == "write"
    assert refs["reader"]["direction"] == "read"
    assert refs["writer"]["channel_id"] == refs["reader"]["channel_id"]
    channel = channels.find(refs["writer"]["channel_id"], refs["writer"]["access_key"])
    assert channel is not None
    assert channel.buffer_size == 64


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 64), (0, 1), (-5, 1), (7, 7), (1024, 1024), (5000, 1024)]
)
def test_the_buffer_size_is_clamped(asked: int | None, given: int) -> None:
    channels = Channels()
    outcome = create(channels, {"buffer_size": asked})
    assert isinstance(outcome, Result)
    ref = json.loads(outcome.value or b"")["writer"]
    channel = channels.find(ref["channel_id"], ref["access_key"])
    assert channel is not None
    assert channel.buffer_size == given


@pytest.mark.parametrize("payload", [None, [], "x", {"buffer_size": "64"}, {"buffer_size": 1.5}])
def test_a_wrong_payload_is_refused(payload: Any) -> None:
    outcome = create(Channels(), payload)
    assert isinstance(outcome, Failure)
    assert outcome.code == "deserialization_error"


def test_a_wrong_id_or_key_finds_nothing() -> None:
    channels = Channels()
    channel_id, key = channels.create()
    assert channels.find(channel_id, key) is not None
    assert channels.find(channel_id, key[:-1]) is None
    assert channels.find(channel_id, "ü") is None
    assert channels.find("nope", key) is None


def test_a_channel_ends_when_the_reader_has_drained_it() -> None:
    channels = Channels()
    channel = channels.find(*channels.create())
    assert channel is not None
    channel.attach_reader(End())
    channel.finish()
    assert len(channels) == 0


def test_an_offered_channel_is_made_when_somebody_opens_it_with_its_key() -> None:
    channels, made = Channels(), []

    def make() -> Channel:
        made.append(Channel())
        return made[-1]

    def source(channel_id: str) -> Offer | None:
        return Offer("key", make) if channel_id == "id" else None

    channels.add_source(source)
    assert channels.find("id", "wrong") is None
    assert channels.find("other", "key") is None
    assert made == []
    assert channels.find("id", "key") is made[0]
    channels.remove_source(source)
    assert channels.find("id", "key") is None


@pytest.mark.parametrize(
    ("writer", "reader", "lives"), [(0, 0, False), (1, 0, False), (0, 1, False), (1, 1, True)]
)
def test_ends_that_have_not_met_in_time_are_closed(writer: int, reader: int, lives: bool) -> None:
    clock = Clock()
    channels = Channels(clock=clock, lifetime=300)
    channel = channels.find(*channels.create())
    assert channel is not None
    ends = End(), End()
    if writer:
        channel.attach_writer(ends[0])
    if reader:
        channel.attach_reader(ends[1])
    clock.now += 299
    channels.sweep()
    assert len(channels) == 1
    clock.now += 1
    channels.sweep()
    assert (len(channels) == 1) is lives
    assert ends[0].events == (["dropped"] if writer and not lives else [])
    assert ends[1].events == (["notify"] if reader and not lives else [])


def test_creating_sweeps_now_and_then() -> None:
    clock = Clock()
    channels = Channels(clock=clock, lifetime=300)
    channels.create()
    clock.now += 301
    channels.create()
    assert len(channels) == 1
