"""KeyQueues: an answer of the store counts for the calls that were made before it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from iii_skill.adapters.shared import KeyQueue, KeyQueues, KnownValues
from iii_skill.values import KEEP

KEY = ("s", "k")


class Queue(KeyQueue, eq=False):
    """Notes what the store is asked, and leaves the answering to the test."""

    def ask(self) -> None:
        self.deadline = self.queues.loop.time() + self.queues.timeout
        self.queues.sent.append("ask")

    def swap(self, base: bytes | None, values: Sequence[bytes | None]) -> None:
        self.deadline = self.queues.loop.time() + self.queues.timeout
        self.queues.sent.append((base, tuple(values)))


class Queues(KeyQueues[Queue]):
    """The queues of a store without a server."""

    def __init__(self) -> None:
        super().__init__(KnownValues(), timeout=5.0, server="The store")
        self.sent: list[Any] = []

    def new(self, key: tuple[str, str]) -> Queue:
        queue = self.by_key[key] = Queue(queues=self, key=key)
        return queue


async def test_a_get_that_comes_while_an_answer_is_on_the_way_is_asked_for_anew() -> None:
    queues = Queues()
    kept = queues.update(KEY, lambda _old: KEEP)
    queue = queues.by_key[KEY]
    assert queues.sent == ["ask"]
    # The store has answered b"1" by now; then another host writes b"2" and is answered.
    late = queues.read_after(queue)
    queue.current(b"1")
    assert (await kept).new == b"1"
    assert not late.done()
    assert queues.sent[1:] == [(b"1", ())]
    queue.current(b"2")
    assert await late == b"2"
    assert queues.by_key == {}


async def test_after_a_lost_race_too() -> None:
    queues = Queues()
    queues.known.put(KEY, b"1")
    once = queues.update(KEY, lambda old: b"2" if old == b"1" else KEEP)
    queue = queues.by_key[KEY]
    assert queues.sent == [(b"1", (b"2",))]
    late = queues.read_after(queue)
    later = queues.update(KEY, lambda _old: KEEP)
    queue.current(b"7")
    assert (await once).revision == 0
    assert not late.done()
    assert not later.done()
    queue.current(b"8")
    assert await late == b"8"
    assert (await later).new == b"8"


async def test_a_late_get_before_a_write_counts_with_the_write() -> None:
    queues = Queues()
    kept = queues.update(KEY, lambda _old: KEEP)
    queue = queues.by_key[KEY]
    late, written = queues.read_after(queue), queues.write_after(queue, b"5")
    queue.current(b"1")
    # The store compares b"1" again when it writes, so that moment counts for all of them.
    assert queues.sent == ["ask", (b"1", (b"5",))]
    assert not kept.done()
    queue.swapped([3])
    assert (await kept).revision == 0
    assert await late == b"1"
    assert (await written).revision == 3


async def test_a_caller_that_is_gone_holds_nobody_up() -> None:
    queues = Queues()
    gone = asyncio.ensure_future(_awaited(queues.update(KEY, lambda _old: KEEP)))
    await asyncio.sleep(0)
    queue = queues.by_key[KEY]
    gone.cancel()
    late = queues.read_after(queue)
    await asyncio.sleep(0)
    queue.current(b"1")
    queue.current(b"2")
    assert await late == b"2"


async def _awaited(answer: Any) -> Any:
    return await answer
