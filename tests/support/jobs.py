"""What tests of queues and schedules need: a handler that keeps its jobs, calls that make them, the clock."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from iii_skill import Host


class Handler:
    """A function that keeps what it gets; it may fail or be held back."""

    def __init__(self, host: Host, function_id: str = "work", *, fails: int = 0, held: bool = False) -> None:
        self.got: list[Any] = []
        self.fails = fails
        self.running = self.most = 0
        self.free = asyncio.Event()
        if not held:
            self.free.set()
        host.register_function(function_id, self._run)

    async def _run(self, payload: Any) -> str:
        self.got.append(payload)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.free.wait()
        finally:
            self.running -= 1
        if self.fails:
            self.fails -= 1
            raise ValueError("no good")
        return "done"

    async def has(self, count: int) -> list[Any]:
        """Wait until it got so many; what it got."""
        await until(lambda: len(self.got) >= count)
        assert len(self.got) == count
        return self.got


async def until(condition: Callable[[], Any]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the clocks of hosts go on only when they are moved, however slow the machine is."""
    now = time.time()
    monkeypatch.setattr("iii_skill.clock.time", SimpleNamespace(time=lambda: now))


async def early_in_a_minute(*hosts: Host) -> None:
    """Bring the clocks of new hosts to the tenth second of a minute, when nothing waits for its moment.

    They go on by themselves, too: a test has the rest of that minute before one more begins.
    """
    # What a host does beside has its first turn; soon after the start it looks once for keys that ended
    # while none ran.
    await asyncio.sleep(0)
    seconds = 70 - hosts[0].clock.now() % 60
    for host in hosts:
        host.clock.advance(seconds)
    await until(lambda: not any(host.clock.pending for host in hosts))


async def waiting(host: Host, jobs: int) -> None:
    """Wait until what was due is called and so many schedules wait for their next moment.

    One whose handler still runs does not wait: it would miss the moments to which the clock is moved.
    """
    await until(lambda: not host.clock.due and host.clock.pending == jobs)


async def enqueue(host: Host, data: Any, queue: str = "q", function_id: str = "work", **more: Any) -> str:
    """Store a job; its receipt."""
    receipt = str(uuid.uuid4())
    answer = await host.trigger(
        "engine::queue::enqueue",
        {"queue": queue, "function_id": function_id, "data": data, "messageReceiptId": receipt, **more},
    )
    assert answer == {"messageReceiptId": receipt}
    return receipt


async def publish(host: Host, data: Any, topic: str = "t") -> None:
    """Store a message for the subscribers of a topic."""
    assert await host.trigger("iii::durable::publish", {"topic": topic, "data": data}) is None


async def stats(host: Host, name: str = "q") -> tuple[int, int]:
    """Depth and dead letters of a queue or topic."""
    found = await host.trigger("engine::queue::topic_stats", {"topic": name})
    return found["depth"], found["dlq_depth"]


async def drained(host: Host, name: str = "q", dead: int = 0) -> None:
    """Wait until nothing waits or runs, and so many are dead."""
    async with asyncio.timeout(30):
        while await stats(host, name) != (0, dead):
            await asyncio.sleep(0.002)
