"""Files that go away under a running host stop it, and no second host starts beside it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from iii_state_file import FileAdapter
from support.file_store import answer, open_store, opened, refusal

from iii_skill.errors import StorageFailed

FILES = ("state.db", "state.db-wal", "lock")


@asynccontextmanager
async def watched(data: Path) -> AsyncIterator[tuple[FileAdapter, asyncio.Future[StorageFailed]]]:
    """An open store with a key, and the failure that stops it."""
    store = await opened(data)
    failure: asyncio.Future[StorageFailed] = asyncio.get_running_loop().create_future()
    store.on_failure = failure.set_result
    await answer(store.set("s", "k", b"1"))
    try:
        yield store, failure
    finally:
        await store.close()


def remove(path: Path) -> None:
    """As `rm` does."""
    path.unlink()


def move_away(path: Path) -> None:
    """As `mv` does."""
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    """As tools do that write beside and rename."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


CHANGES = {"removed": remove, "moved away": move_away, "replaced": replace}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", CHANGES)
async def test_a_file_that_goes_away_stops_the_store(tmp_path: Path, name: str, change: str) -> None:
    async with watched(tmp_path / "data") as (store, failure):
        CHANGES[change](tmp_path / "data" / name)
        async with asyncio.timeout(20):
            told = await failure
        words = "was replaced" if change == "replaced" else "was removed or moved away"
        assert f"{name} {words} while it was in use" in told.message
        assert told.message.endswith("put the files back as they were, then start again.")
        for call in (lambda: store.set("s", "k", b"2"), lambda: store.get("s", "k"), lambda: store.list("s")):
            with pytest.raises(StorageFailed, match="is stopped"):
                await answer(call())


@pytest.mark.parametrize("clean", [shutil.rmtree, lambda data: data.rename(data.with_name("moved"))])
async def test_a_directory_that_goes_away_stops_the_store(
    tmp_path: Path, clean: Callable[[Path], object]
) -> None:
    async with watched(tmp_path / "data") as (_, failure):
        clean(tmp_path / "data")
        async with asyncio.timeout(20):
            assert "while it was in use" in (await failure).message
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
async def test_a_file_that_is_cut_stops_the_store(tmp_path: Path, name: str) -> None:
    async with watched(tmp_path / "data") as (_, failure):
        os.truncate(tmp_path / "data" / name, 100)
        async with asyncio.timeout(20):
            assert f"{name} was cut short" in (await failure).message


async def test_what_was_moved_away_is_whole_when_it_comes_back(tmp_path: Path) -> None:
    async with watched(tmp_path / "data") as (store, failure):
        for number in range(50):
            await answer(store.set("s", f"k{number}", b"%d" % number))
        (tmp_path / "data").rename(tmp_path / "moved")
        async with asyncio.timeout(20):
            await failure
    (tmp_path / "moved").rename(tmp_path / "data")
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.list("s")) == [
            ("k", b"1"),
            *((f"k{number}", b"%d" % number) for number in range(50)),
        ]


async def test_no_second_host_starts_where_the_lock_file_was_removed(tmp_path: Path) -> None:
    async with watched(tmp_path / "data") as (_, failure):
        (tmp_path / "data" / "lock").unlink()
        assert "is in use by" in await refusal(tmp_path / "data")
        async with asyncio.timeout(20):
            await failure
        assert "is in use by" in await refusal(tmp_path / "data")
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.get("s", "k")) == b"1"


async def test_a_store_that_grows_and_is_read_by_others_goes_on(tmp_path: Path) -> None:
    async with watched(tmp_path / "data") as (store, failure):
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        os.utime(tmp_path / "data" / "state.db")
        (tmp_path / "data" / "state.db").chmod(0o600)
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            await answer(store.set("s", "k", os.urandom(10_000)))
        assert not failure.done()


SERVE = ("-m", "iii_skill", "serve", "--port", "0", "--http-port", "0", "--ready-json")


def test_the_host_ends_with_one_sentence(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, *SERVE, "--data-dir", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline().startswith("{")
        shutil.rmtree(data)
        _, told = host.communicate(timeout=60)
    assert host.returncode == 1
    assert told.count("while it was in use") == 1
    assert "Traceback" not in told
    assert not data.exists()
