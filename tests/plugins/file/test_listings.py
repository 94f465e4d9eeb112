"""Lists out of memory are those of the store: of one moment, durable, in order, whatever is written."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from iii_state_file.scan_reader import LIST, Scan, ScanReader
from support.file_store import answer, open_store

from iii_skill.adapter import Deferred


@contextmanager
def held_scans(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """What a scan read is given back only when the second event is set; the first tells that it was read."""
    read, go = threading.Event(), threading.Event()
    run = ScanReader._run

    def slow(reader: ScanReader, scan: Scan) -> Any:
        rows = run(reader, scan)
        if scan.query is LIST:
            read.set()
            assert go.wait(30)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(ScanReader, "_run", slow)
        try:
            yield read, go
        finally:
            go.set()


async def until(event: threading.Event) -> None:
    """Wait for a thread."""
    async with asyncio.timeout(20):
        while not event.is_set():
            await asyncio.sleep(0.001)


async def test_a_list_is_answered_from_memory_the_second_time(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        for number in range(10):
            await answer(store.set("s", f"k{number}", b"%d" % number))
        first = store.list("s")
        assert isinstance(first, Deferred)
        pairs = list(await first)
        assert store.list("s") == pairs == [(f"k{number}", b"%d" % number) for number in range(10)]
        assert store.keys("s") == [f"k{number}" for number in range(10)]
        # The list is the caller's own.
        given = store.list("s")
        assert isinstance(given, list)
        given.clear()
        assert store.list("s") == pairs


async def test_a_list_from_memory_follows_every_write(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        for key in "abc":
            await answer(store.set("s", key, b"1"))
        await answer(store.list("s"))
        await answer(store.set("s", "b", b"22"))
        assert store.list("s") == [("a", b"1"), ("b", b"22"), ("c", b"1")]
        await answer(store.delete("s", "a"))
        assert store.list("s") == [("b", b"22"), ("c", b"1")]
        await answer(store.set("s", "a", b"3"))
        assert store.list("s") == [("b", b"22"), ("c", b"1"), ("a", b"3")]
        await answer(store.delete("s", "never"))
        assert store.keys("s") == ["b", "c", "a"]
        for key in "abc":
            await answer(store.delete("s", key))
        assert store.list("s") == []
        assert await answer(store.scopes()) == []


async def test_a_list_from_memory_waits_for_the_writes_that_it_shows(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "a", b"1"))
        await answer(store.list("s"))
        written = store.set("s", "a", b"2")
        listed, keys = store.list("s"), store.keys("s")
        later = store.set("s", "a", b"3")
        assert isinstance(listed, Deferred)
        assert isinstance(keys, Deferred)
        assert isinstance(written, Deferred)
        assert not listed.done()
        assert await listed == [("a", b"2")]
        assert written.done()
        assert await keys == ["a"]
        await answer(later)
        assert store.list("s") == [("a", b"3")]


async def test_writes_while_the_scope_is_read_are_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path / "data") as store:
        for key in "abcd":
            await answer(store.set("s", key, b"1"))
        with held_scans(monkeypatch) as (read, go):
            first = asyncio.ensure_future(answer(store.list("s")))
            await asyncio.sleep(0)
            await until(read)
            # The scan has seen none of these.
            await answer(store.set("s", "a", b"2"))
            await answer(store.delete("s", "b"))
            await answer(store.delete("s", "c"))
            await answer(store.set("s", "c", b"2"))
            await answer(store.set("s", "e", b"2"))
            second = asyncio.ensure_future(answer(store.list("s")))
            await asyncio.sleep(0)
            go.set()
            now = [("a", b"2"), ("d", b"1"), ("c", b"2"), ("e", b"2")]
            assert await first == now
            assert await second == now
        assert store.list("s") == now


async def test_writes_that_the_scan_saw_are_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path / "data") as store:
        for key in "ab":
            await answer(store.set("s", key, b"1"))
        run = ScanReader._run
        started, go = threading.Event(), threading.Event()

        def late(reader: ScanReader, scan: Scan) -> Any:
            started.set()
            assert go.wait(30)
            return run(reader, scan)

        monkeypatch.setattr(ScanReader, "_run", late)
        listed = asyncio.ensure_future(answer(store.list("s")))
        await asyncio.sleep(0)
        await until(started)
        for key in "ba":
            await answer(store.delete("s", key))
            await answer(store.set("s", key, b"2"))
        await answer(store.set("s", "c", b"2"))
        await answer(store.delete("s", "b"))
        go.set()
        assert await listed == [("a", b"2"), ("c", b"2")]


async def test_a_scan_that_too_many_writes_overtake_still_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iii_state_file.listings._NOTED_BYTES", 2_000)
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "a", b"1"))
        with held_scans(monkeypatch) as (read, go):
            first = asyncio.ensure_future(answer(store.list("s")))
            await asyncio.sleep(0)
            await until(read)
            for number in range(20):
                await answer(store.set("s", f"k{number}", b"1"))
            second = asyncio.ensure_future(answer(store.list("s")))
            await asyncio.sleep(0)
            go.set()
            assert len(await second) == 21
            # As many as were noted for it, in order.
            got = await first
            assert got == [("a", b"1"), *((f"k{number}", b"1") for number in range(len(got) - 1))]
        assert len(store.list("s")) == 21  # type: ignore[arg-type]


@pytest.mark.parametrize("cache_bytes", [0, 3_000, 20_000, 64_000_000])
async def test_every_list_is_a_moment_between_its_call_and_its_answer(
    tmp_path: Path, cache_bytes: int
) -> None:
    chance = random.Random(cache_bytes)
    moments: dict[str, list[list[tuple[str, bytes]]]] = {"s": [[]], "t": [[]]}
    async with open_store(tmp_path / "data", cache_bytes=cache_bytes) as store:
        calls: list[tuple[Any, str, int]] = []
        for scope in "st":
            # A write of a key that has to be read first may be overtaken by a list; these are not.
            await asyncio.gather(*(answer(store.get(scope, f"k{number}")) for number in range(12)))
        for step in range(3_000):
            scope, key = chance.choice("st"), f"k{chance.randrange(12)}"
            history = moments[scope]
            now = dict(history[-1])
            action = chance.random()
            if action < 0.35:
                now[key] = b"%d" % step + b"x" * chance.randrange(80)
                written = store.set(scope, key, now[key])
                if cache_bytes < 1_000_000:
                    await answer(written)
                history.append(list(now.items()))
            elif action < 0.55:
                now.pop(key, None)
                written = store.delete(scope, key)
                if cache_bytes < 1_000_000:
                    await answer(written)
                history.append(list(now.items()))
            elif action < 0.75:
                calls.append((store.list(scope), scope, len(history) - 1))
            elif action < 0.85:
                calls.append((store.keys(scope), scope, len(history) - 1))
            else:
                assert await answer(store.get(scope, key)) == now.get(key)
            if chance.random() < 0.2:
                await check(calls, moments)
        await check(calls, moments)


async def check(calls: list[tuple[Any, str, int]], moments: dict[str, list[list[tuple[str, bytes]]]]) -> None:
    """Each answer is what the scope held at its call, or later."""
    for given, scope, first in calls:
        got = list(await answer(given))
        since = moments[scope][first:]
        if got and isinstance(got[0], str):
            assert got in [[key for key, _ in pairs] for pairs in since]
        else:
            assert got in since
    calls.clear()


async def test_memory_of_listings_is_bounded(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", cache_bytes=400_000) as store:
        for scope in range(40):
            writes = [store.set(f"s{scope}", f"k{number}", b"x" * 500) for number in range(20)]
            await asyncio.gather(*map(answer, writes))
        for _ in range(2):
            for scope in range(40):
                assert len(await answer(store.list(f"s{scope}"))) == 20
                assert store._listings.used <= 200_000
                assert store._cache.used + store._listings.used <= 400_000
        assert store._listings.used == sum(listing.size for listing in store._listings.values())
        assert len(store._listings) >= 5


async def test_a_scope_larger_than_the_memory_is_read_each_time(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data", cache_bytes=50_000) as store:
        writes = [store.set("s", f"k{number}", b"x" * 500) for number in range(200)]
        await asyncio.gather(*map(answer, writes))
        for _ in range(3):
            assert len(await answer(store.list("s"))) == 200
            assert not store._listings


async def test_a_key_that_is_not_in_the_list_needs_no_reading(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "a", b"1"))
        await answer(store.list("s"))
        assert store.get("s", "absent") is None
        change = store.set("s", "new", b"2")
        assert store._keys.reading == 0
        assert (await answer(change)).old is None
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.list("s")) == [("a", b"1"), ("new", b"2")]
        assert store.get("s", "new") == b"2"
        assert (await answer(store.update("s", "new", lambda old: (old or b"") + b"3"))).new == b"23"
        assert store.list("s") == [("a", b"1"), ("new", b"23")]
