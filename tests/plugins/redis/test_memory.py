"""What a call leaves behind: nothing that only the cyclic collector would free."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Iterator, Sequence

import pytest
from iii_state_redis import RedisAdapter
from support.redis import RedisServer, until

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError

from .conftest import OpenAdapter

ROUNDS = 60


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The cyclic collector is off, and keeps what it finds."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def cycles() -> int:
    """How many of our objects only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    ours = [found for found in gc.garbage if type(found).__module__.startswith(("iii_", "builtins.Deferred"))]
    gc.garbage.clear()
    return len(ours)


async def settled(calls: Sequence[Deferred[object]]) -> list[object]:
    """Wait as the host does: by listening, with no frame that holds a call."""
    answers: list[object] = []
    for call in calls:
        call.listen(answers, list.append, list.append)
    await until(lambda: len(answers) == len(calls))
    return answers


def refuse(_old: bytes | None) -> bytes:
    """A change that fails."""
    raise ValueError("not this one")


async def test_calls_that_are_answered_leave_nothing(adapter: RedisAdapter, uncollected: None) -> None:
    for number in range(ROUNDS):
        key = f"k{number % 7}"
        await settled(
            [
                adapter.get("s", key),
                adapter.set("s", key, b"1"),
                adapter.update("s", key, lambda _old: b"2"),
                adapter.update("s", key, lambda _old: b"3"),
                adapter.update("s", key, refuse),
                adapter.get("s", key),
                adapter.delete("s", key),
            ]
        )
        assert len(await adapter.list("s")) == 0
    assert cycles() == 0


async def test_changes_that_were_followed_leave_nothing(adapter: RedisAdapter, uncollected: None) -> None:
    changes = adapter.changes()
    for _ in range(ROUNDS):
        await adapter.set("s", "k", b"1")
        async with asyncio.timeout(60):
            await anext(changes)
    assert cycles() == 0


async def stored(adapter: RedisAdapter) -> bool:
    """True when a set is answered in time."""
    try:
        await adapter.set("s", "k", b"1")
    except AdapterError:
        return False
    return True


async def test_calls_that_time_out_leave_nothing(
    server: RedisServer, open_adapter: OpenAdapter, uncollected: None
) -> None:
    async with open_adapter(timeout=0.3) as adapter:
        await until(lambda: stored(adapter))
        server.signal(signal.SIGSTOP)
        errors = await settled(
            [adapter.get("s", "k"), adapter.set("s", "a", b"1"), adapter.update("s", "k", lambda _old: b"2")]
        )
        assert all(isinstance(error, Exception) for error in errors)
        server.signal(signal.SIGCONT)
        del errors
        assert cycles() == 0
