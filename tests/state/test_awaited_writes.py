"""A shared store tells of a write before it answers it: what led to the write is known all the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from iii_state_memory import MemoryAdapter
from support.calls import OneCall

from iii_skill.adapter import Deferred
from iii_skill.calls import CHAIN, TRACE
from iii_skill.errors import AdapterUnavailable
from iii_skill.state import awaited_writes
from iii_skill.state.settings import LiveSettings
from iii_skill.state.worker import StateWorker
from iii_skill.values import Change

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = PARENT.replace("00f067aa0ba902b7", "00f067aa0ba902b8")
Told = tuple[str, bytes | None, int, str | None]


class ToldFirst(MemoryAdapter):
    """Its stream has a write at once, and the write is answered when the test says so."""

    shared: ClassVar[bool] = True
    changes_from_call: ClassVar[bool] = True

    def __init__(self, how: str = "future") -> None:
        super().__init__()
        self.how = how
        self.stream: asyncio.Queue[Change] = asyncio.Queue()
        self.writes: list[tuple[Any, Change]] = []

    def update(self, scope: str, key: str, change: Any) -> Any:
        done = super().update(scope, key, change)
        self.stream.put_nowait(done)
        answer: Any = Deferred() if self.how == "deferred" else asyncio.get_running_loop().create_future()
        self.writes.append((answer, done))
        return self._later(answer) if self.how == "coroutine" else answer

    def set(self, scope: str, key: str, value: bytes) -> Any:
        return self.update(scope, key, lambda _old: value)

    def delete(self, scope: str, key: str) -> Any:
        return self.update(scope, key, lambda _old: None)

    async def _later(self, answer: Any) -> Any:
        return await answer

    def elsewhere(self, key: str, value: bytes) -> None:
        """Another host writes."""
        self.stream.put_nowait(super().update("s", key, lambda _old: value))

    def answer(self) -> None:
        """Answer the oldest write."""
        answer, done = self.writes.pop(0)
        answer.set_result(done)

    def refuse(self) -> None:
        """The oldest write got no answer."""
        self.writes.pop(0)[0].set_exception(AdapterUnavailable("away"))

    async def changes(self) -> AsyncIterator[Change]:
        while True:
            yield await self.stream.get()


class Worker:
    """A state worker over it, and what it told: key, value, length of the chain, trace."""

    def __init__(self, adapter: ToldFirst) -> None:
        self.adapter = adapter
        self.told: list[Told] = []
        self.state = StateWorker(adapter, settings=LiveSettings(), publish=self._publish, listeners=["all"])
        self.state.listen()

    def _publish(self, change: Change) -> None:
        self.told.append((change.key, change.new, CHAIN.get(), TRACE.get()))

    def call(
        self, name: str, key: str, value: Any, *, chain: int = 0, trace: str | None = PARENT, **more: Any
    ) -> asyncio.Future[Any]:
        payload = {"scope": "s", "key": key, "value": value, **more}
        call = OneCall(json.dumps(payload).encode(), "w1", [], chain=chain, traceparent=trace)
        function: Any = self.state.functions[f"state::{name}"]
        function(call)
        return call.answer

    async def heard(self) -> None:
        """All that the stream had is taken."""
        for _ in range(20):
            await asyncio.sleep(0)
        assert self.adapter.stream.empty()


async def opened(how: str = "future") -> Worker:
    worker = Worker(ToldFirst(how))
    await worker.state.start()
    await worker.heard()
    return worker


@pytest.mark.parametrize("how", ["future", "deferred", "coroutine"])
@pytest.mark.parametrize("name", ["set", "update", "delete", "compare-and-set"])
async def test_an_event_that_comes_before_the_answer_waits_for_it(name: str, how: str) -> None:
    worker = await opened(how)
    worker.adapter.elsewhere("k", b"0")
    await worker.heard()
    more: dict[str, Any] = {"ops": [{"type": "set", "path": "", "value": 1}]} if name == "update" else {}
    if name == "compare-and-set":
        more = {"expected": 0}
    answer = worker.call(name, "k", 1, chain=3, **more)
    worker.adapter.elsewhere("other", b"2")
    await worker.heard()
    # Events of other keys do not wait.
    assert worker.told == [("k", b"0", 0, None), ("other", b"2", 0, None)]
    worker.adapter.answer()
    await answer
    await worker.heard()
    new = None if name == "delete" else b"1"
    assert worker.told[2:] == [("k", new, 3, PARENT)]
    assert not worker.state.publisher._awaited
    assert not worker.state.publisher._causes
    await worker.state.close()


async def test_the_events_of_a_key_stay_in_order_and_have_their_own_causes() -> None:
    worker = await opened()
    worker.call("set", "k", 1)
    worker.adapter.elsewhere("k", b"2")
    worker.call("set", "k", 3, trace=OTHER, chain=1)
    worker.call("set", "k", 4, trace=None)
    await worker.heard()
    assert worker.told == []
    worker.adapter.answer()
    await worker.heard()
    assert worker.told == [("k", b"1", 0, PARENT)]
    worker.adapter.answer()
    await worker.heard()
    assert worker.told[1:] == [("k", b"2", 0, None), ("k", b"3", 1, OTHER), ("k", b"4", 0, None)]
    await worker.state.close()


async def test_writes_that_are_always_under_way_hold_the_event_of_another_host_back_only_once() -> None:
    worker = await opened()
    worker.call("set", "k", 1)
    await worker.heard()
    worker.adapter.elsewhere("k", b"2")
    await worker.heard()
    worker.call("set", "k", 3)
    await worker.heard()
    # The one that was under way when it came fails; the one that began later does not count.
    worker.adapter.refuse()
    await worker.heard()
    assert worker.told == [("k", b"1", 0, None), ("k", b"2", 0, None)]
    await worker.state.close()


async def test_a_write_that_is_never_answered_holds_its_events_back_for_a_while_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awaited_writes, "LONGEST_S", 0.02)
    worker = await opened()
    worker.call("set", "k", 1)
    async with asyncio.timeout(20):
        while not worker.told:
            await asyncio.sleep(0.005)
    assert worker.told == [("k", b"1", 0, None)]
    # An answer that comes later finds nothing to do.
    worker.adapter.answer()
    worker.adapter.elsewhere("k", b"2")
    await worker.heard()
    assert worker.told[1:] == [("k", b"2", 0, None)]
    await worker.state.close()


async def test_an_event_that_cannot_be_told_takes_none_of_those_behind_it_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(awaited_writes, "LONGEST_S", 0.02)
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
    worker = await opened()

    def publish(change: Change) -> None:
        if change.new == b"1":
            raise ValueError("no")
        worker._publish(change)

    worker.state.publisher._publish = publish
    worker.call("set", "k", 1)
    worker.adapter.elsewhere("k", b"2")
    async with asyncio.timeout(30):
        while not worker.told:
            await asyncio.sleep(0.005)
    assert worker.told == [("k", b"2", 0, None)]
    assert [str(error) for error in raised] == ["no"]
    assert not worker.state.publisher._awaited
    assert worker.state.publisher._awaited._events == 0
    await worker.state.close()


async def test_a_reaction_that_writes_the_key_again_does_not_overtake_what_waits() -> None:
    worker = await opened("deferred")
    publish, worker.state.publisher._publish = worker._publish, lambda change: react(change)

    def react(change: Change) -> None:
        if change.new == b"1":
            worker.call("set", "k", 3, chain=1)
            worker.adapter.answer()
        publish(change)

    worker.call("set", "k", 1)
    worker.adapter.elsewhere("k", b"2")
    await worker.heard()
    worker.adapter.answer()
    await worker.heard()
    assert worker.told == [("k", b"1", 0, PARENT), ("k", b"2", 0, None), ("k", b"3", 1, PARENT)]
    await worker.state.close()


async def test_few_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited_writes, "MOST_EVENTS", 2)
    worker = await opened()
    worker.call("set", "k", 1)
    for value in (b"2", b"3"):
        worker.adapter.elsewhere("k", value)
    await worker.heard()
    assert [new for _, new, _, _ in worker.told] == [b"1", b"2", b"3"]
    await worker.state.close()


async def test_nothing_is_told_after_the_end() -> None:
    worker = await opened()
    worker.call("set", "k", 1)
    await worker.heard()
    await worker.state.close()
    worker.adapter.answer()
    await worker.heard()
    assert worker.told == []


async def test_what_first_listened_is_no_cause_of_later_changes() -> None:
    chain, trace = CHAIN.set(7), TRACE.set(PARENT)
    try:
        worker = await opened()
    finally:
        CHAIN.reset(chain)
        TRACE.reset(trace)
    worker.adapter.elsewhere("k", b"1")
    await worker.heard()
    assert worker.told == [("k", b"1", 0, None)]
    await worker.state.close()
