"""Memory stays bounded when the data is larger than the cache, and what was evicted is read again."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path

import pytest
from iii_state_file import FileAdapter
from support.file_store import answer, open_store

from iii_skill.adapter import Deferred

CACHE = 1_000_000


async def fill(adapter: FileAdapter, keys: range, size: int) -> None:
    """Store values of one size, some hundred at a time."""
    for start in range(keys.start, keys.stop, 200):
        part = range(start, min(start + 200, keys.stop))
        await asyncio.gather(
            *(answer(adapter.set("scope", f"key-{i}", b"%d:" % i + b"x" * size)) for i in part)
        )


@pytest.mark.parametrize(("keys", "size"), [(12_000, 150), (1_500, 4_000), (8, 1_000_000)])
async def test_memory_is_bounded_by_the_cache(tmp_path: Path, keys: int, size: int) -> None:
    async with open_store(tmp_path / "data", cache_bytes=CACHE) as adapter:
        await fill(adapter, range(8), size)
        gc.collect()
        tracemalloc.start()
        try:
            await fill(adapter, range(keys), size)
            # The event loop holds the answers of its current turn.
            await asyncio.sleep(0)
            gc.collect()
            held, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert keys * size > 1.5 * CACHE
        assert held < 1.2 * CACHE
        for index in (0, keys // 2, keys - 1):
            assert await answer(adapter.get("scope", f"key-{index}")) == b"%d:" % index + b"x" * size
        assert len(await answer(adapter.keys("scope"))) == keys


async def test_recently_used_keys_stay_in_memory(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", cache_bytes=200_000) as adapter:
        await fill(adapter, range(8), 150)
        for start in range(8, 1_008, 100):
            await fill(adapter, range(start, start + 100), 150)
            assert adapter.get("scope", "key-0") == b"0:" + b"x" * 150
        evicted = adapter.get("scope", "key-1")
        assert isinstance(evicted, Deferred)
        assert await evicted == b"1:" + b"x" * 150


async def test_absent_keys_take_bounded_memory_too(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", cache_bytes=100_000) as adapter:
        for start in range(0, 4_000, 500):
            await asyncio.gather(*(answer(adapter.get("scope", f"absent-{start + i}")) for i in range(500)))
        assert isinstance(adapter.get("scope", "absent-0"), Deferred)
        assert adapter.get("scope", "absent-3999") is None


async def test_writes_that_wait_for_their_commit_are_never_evicted(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", cache_bytes=0) as adapter:
        calls = [
            answer(adapter.update("scope", f"key-{i % 7}", lambda old: b"%d" % (int(old or b"0") + 1)))
            for i in range(700)
        ]
        await asyncio.gather(*calls)
        values = [value for _, value in await answer(adapter.list("scope"))]
        assert values == [b"100"] * 7


async def test_lists_that_nobody_waits_for_any_more_are_forgotten(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as adapter:
        await fill(adapter, range(8), 150)
        gc.collect()
        before = pending_futures()
        for method in (adapter.list, adapter.keys):
            calls = [asyncio.ensure_future(answer(method("scope"))) for _ in range(50)]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
        # The reader takes them in turn, so they are done when this one is.
        assert await answer(adapter.scopes()) == ["scope"]
        assert len(await answer(adapter.list("scope"))) == 8
        del calls, call
        gc.collect()
        assert pending_futures() - before < 5


def pending_futures() -> int:
    """How many futures are alive."""
    return sum(isinstance(thing, asyncio.Future) for thing in gc.get_objects())
