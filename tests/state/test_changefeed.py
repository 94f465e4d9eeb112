"""The changes of a shared adapter are followed while somebody wants them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.site import until

from iii_skill.state.change_feed import ChangeFeed
from iii_skill.values import Change


def change(number: int) -> Change:
    """A change with a number."""
    return Change("s", "k", None, b"%d" % number, number)


class Stream:
    """A stream of changes that many may follow, each from its call of `changes` on."""

    def __init__(self) -> None:
        self.readers: list[asyncio.Queue[Change | None]] = []

    def changes(self) -> AsyncIterator[Change]:
        """What is added from this call on."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self.readers.append(queue)
        return self._read(queue)

    async def _read(self, queue: asyncio.Queue[Change | None]) -> AsyncIterator[Change]:
        try:
            while (change := await queue.get()) is not None:
                yield change
        finally:
            self.readers.remove(queue)

    def add(self, number: int | None) -> None:
        """Add a change; None ends the streams."""
        for queue in self.readers:
            queue.put_nowait(None if number is None else change(number))


class Feed:
    """A feed over a stream, what it fired, and whether somebody wants it."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.fired: list[int] = []
        self.wanted = True
        self.feed = ChangeFeed(self.stream.changes, self._fire, wanted=lambda: self.wanted)

    def _fire(self, change: Change) -> None:
        self.fired.append(change.revision)


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    made = Feed()
    yield made
    await made.feed.close()
    assert made.stream.readers == []


async def test_what_is_written_in_the_turn_of_the_start_is_heard(feed: Feed) -> None:
    feed.stream.add(1)
    feed.feed.start()
    feed.stream.add(2)
    feed.feed.start()
    feed.stream.add(3)
    await until(lambda: feed.fired == [2, 3])
    assert len(feed.stream.readers) == 1


async def test_nothing_is_followed_when_nobody_wants_it_any_more(feed: Feed) -> None:
    feed.feed.start()
    feed.stream.add(1)
    await until(lambda: feed.fired == [1])
    feed.wanted = False
    feed.stream.add(2)
    await until(lambda: not feed.stream.readers)
    feed.stream.add(3)
    feed.wanted = True
    feed.feed.start()
    feed.stream.add(4)
    await until(lambda: feed.fired == [1, 4])


async def test_a_stream_that_ends_is_followed_again(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("iii_skill.state.change_feed.FIRST_PAUSE", 0.001)
    feed.feed.start()
    feed.stream.add(None)
    await until(lambda: "following again" in caplog.text and len(feed.stream.readers) == 1)
    feed.stream.add(5)
    await until(lambda: feed.fired == [5])


async def test_changes_that_cannot_be_had_at_first_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("iii_skill.state.change_feed.FIRST_PAUSE", 0.001)
    stream, fired = Stream(), []

    def changes() -> Any:
        if "trying again" not in caplog.text:
            raise RuntimeError("not yet")
        return stream.changes()

    feed = ChangeFeed(changes, fired.append, wanted=lambda: True)
    feed.start()
    await until(lambda: bool(stream.readers))
    stream.add(1)
    await until(lambda: fired == [change(1)])
    await feed.close()
