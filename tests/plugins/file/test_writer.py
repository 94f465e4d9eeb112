"""What one commit stores: any number of rows and deletes, and revisions that never come back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import iii_state_file.writer
import pytest
from iii_state_file.directory import DATABASE
from support.file_store import answer, open_store, opened

from iii_skill.values import Change


async def settled(*calls: Any) -> list[Any]:
    """All of them, made in one turn of the event loop: one commit."""
    return await asyncio.gather(*map(answer, calls))


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 300, 1000])
async def test_a_commit_of_any_size_is_stored(tmp_path: Path, count: int) -> None:
    async with open_store(tmp_path / "data") as store:
        for _ in range(2):  # New rows, then the same ones again.
            await settled(*(store.set("s", f"k{number}", b"%d" % number) for number in range(count)))
    async with open_store(tmp_path / "data") as store:
        rows = await answer(store.list("s"))
    assert rows == [(f"k{number}", b"%d" % number) for number in range(count)]


async def test_rows_and_deletes_of_one_commit_are_stored(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await settled(*(store.set("s", f"k{number}", b"1") for number in range(200)))
        calls = [store.delete("s", f"k{number}") for number in range(0, 200, 2)]
        calls += [store.set("s", f"k{number}", b"2") for number in range(0, 200, 4)]
        await settled(*calls)
    async with open_store(tmp_path / "data") as store:
        rows = dict(await answer(store.list("s")))
    kept = {f"k{number}": b"1" for number in range(1, 200, 2)}
    assert rows == kept | {f"k{number}": b"2" for number in range(0, 200, 4)}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 127, 128, 129, 300])
async def test_a_commit_deletes_just_what_is_gone(tmp_path: Path, count: int) -> None:
    async with open_store(tmp_path / "data") as store:
        await settled(*(store.set("s", f"k{number}", b"1") for number in range(count + 2)))
        await settled(*(store.delete("s", f"k{number}") for number in range(1, count + 1)))
    async with open_store(tmp_path / "data") as store:
        rows = await answer(store.list("s"))
    assert rows == [("k0", b"1"), (f"k{count + 1}", b"1")]


async def test_revisions_go_on_over_the_end_of_what_was_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iii_state_file.writer, "REVISIONS", 3)
    last = 0
    for _ in range(3):
        async with open_store(tmp_path / "data") as store:
            for _ in range(7):
                change: Change = await answer(store.set("s", "k", b"1"))
                assert change.revision == last + 1
                last = change.revision
                assert claimed(tmp_path / "data") >= last


async def test_a_delete_that_finds_nothing_is_a_commit_of_its_own(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        changes = [await answer(store.delete("s", f"k{number}")) for number in range(3)]
    assert [change.revision for change in changes] == [1, 2, 3]
    assert claimed(tmp_path / "data") == 3


async def test_the_log_stays_small_however_large_the_values_are(tmp_path: Path) -> None:
    log = tmp_path / "data" / f"{DATABASE}-wal"
    async with open_store(tmp_path / "data") as store:
        for number in range(80):
            await answer(store.set("s", f"k{number % 2}", os.urandom(1_000_000)))
            assert log.stat().st_size < 40_000_000


def claimed(directory: Path) -> int:
    """The revision in the database, read as another program does."""
    with sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True) as connection:
        row = connection.execute("SELECT revision FROM store").fetchone()
    connection.close()
    return int(row[0])


async def test_health_tells_sizes_and_that_it_is_closed(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    await answer(store.set("s", "k", b"1"))
    health = await store.health()
    assert health.ok
    assert health.facts["log_bytes"] == (tmp_path / "data" / f"{DATABASE}-wal").stat().st_size
    assert health.facts["bytes_free"] > 0
    await store.close()
    closed = await store.health()
    assert not closed.ok
    assert "closed" in closed.message


async def test_an_erased_store_leaves_no_file(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    await answer(store.set("s", "k", b"1"))
    await store.erase()
    await store.close()
    assert list((tmp_path / "data").iterdir()) == []
    async with open_store(tmp_path / "data") as again:
        assert await answer(again.get("s", "k")) is None


async def test_pages_follow_each_other_while_keys_come_and_go(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await settled(*(store.set("s", f"k{number}", b"%d" % number) for number in range(25)))
        page = await answer(store.page("s", None, 10))
        assert [key for key, _ in page.pairs] == [f"k{number}" for number in range(10)]
        assert page.total == 25
        await settled(store.delete("s", "k3"), store.delete("s", "k12"), store.set("s", "new", b"1"))
        await settled(store.set("s", "k3", b"33"))
        page = await answer(store.page("s", page.after, 10))
        assert [key for key, _ in page.pairs] == [f"k{number}" for number in (10, 11, *range(13, 21))]
        page = await answer(store.page("s", page.after, 10))
        assert [key for key, _ in page.pairs] == ["k21", "k22", "k23", "k24", "new", "k3"]
        assert page.after is None
        empty = await answer(store.page("unknown", None, 10))
        assert (list(empty.pairs), empty.after, empty.total) == ([], None, 0)


async def test_values_of_any_size_are_whole_after_a_restart(tmp_path: Path) -> None:
    sizes = (0, 1, 65_535, 65_536, 65_537, 3_000_000)
    values = {f"k{size}": os.urandom(size) for size in sizes}
    async with open_store(tmp_path / "data") as store:
        await settled(*(store.set("s", key, value) for key, value in values.items()))
        await settled(*(store.set("s", key, value) for key, value in values.items()))
    async with open_store(tmp_path / "data", cache_bytes=0) as store:
        assert dict(await answer(store.list("s"))) == values
        for key, value in values.items():
            assert await answer(store.get("s", key)) == value
