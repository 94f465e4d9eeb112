"""What passes does not stop the store: another program's lock, no descriptor left, a value too large."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import schema
from support.file_store import answer, open_store, opened

from iii_skill.errors import AdapterError, StorageFailed

LOCK = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
other.execute("ROLLBACK")
print("free", flush=True)
"""


@contextmanager
def locked(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that holds the lock of the database until a line comes."""
    command = [sys.executable, "-c", LOCK, str(data / "state.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield other
        finally:
            other.kill()


def release(other: subprocess.Popen[str]) -> None:
    """End the lock."""
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "free\n"


async def test_writes_wait_for_the_lock_of_another_program(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        failures: list[Any] = []
        store.on_failure = failures.append
        await answer(store.set("s", "k", b"0"))
        with locked(tmp_path / "data") as other:
            writes = [asyncio.ensure_future(answer(store.set("s", "k", b"%d" % n))) for n in range(5)]
            writes.append(asyncio.ensure_future(answer(store.delete("s", "gone"))))
            # Longer than SQLite was ever told to wait.
            done, _ = await asyncio.wait(writes, timeout=2.5)
            assert not done
            assert await answer(store.get("s", "other")) is None
            release(other)
            async with asyncio.timeout(20):
                assert [change.new for change in await asyncio.gather(*writes)] == [
                    b"0",
                    b"1",
                    b"2",
                    b"3",
                    b"4",
                    None,
                ]
        assert failures == []
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.get("s", "k")) == b"4"


async def test_a_close_does_not_wait_for_the_lock_of_another_program(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    await answer(store.set("s", "k", b"0"))
    with locked(tmp_path / "data"):
        write = asyncio.ensure_future(answer(store.set("s", "k", b"1")))
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await store.close()
            with pytest.raises(StorageFailed, match="locked"):
                await write
    async with open_store(tmp_path / "data") as again:
        assert await answer(again.get("s", "k")) == b"0"


async def test_a_close_with_all_written_leaves_the_log_to_the_next_start(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    failures: list[Any] = []
    store.on_failure = failures.append
    await answer(store.set("s", "k", b"1"))
    with locked(tmp_path / "data"):
        async with asyncio.timeout(20):
            await store.close()
    await asyncio.sleep(0)
    assert failures == []
    async with open_store(tmp_path / "data") as again:
        assert await answer(again.get("s", "k")) == b"1"


async def test_a_reader_of_the_database_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iii_state_file.writer._CHECKPOINT_BYTES", 30_000)
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "k", b"0"))
        other = sqlite3.connect(tmp_path / "data" / "state.db", isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entries").fetchone()
        for number in range(100):
            await answer(store.set("s", "k", b"%d" % number))
        other.execute("COMMIT")
        other.close()
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.get("s", "k")) == b"99"


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No file can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    taken: list[int] = []
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_store_works_without_any_descriptor_left(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        for number in range(300):
            await answer(store.set("s", f"k{number}", b'"%s"' % (b"x" * 2000)))
    async with open_store(tmp_path / "data", cache_bytes=0) as store:
        failures: list[Any] = []
        store.on_failure = failures.append
        with no_descriptors():
            assert await answer(store.get("s", "k1")) == b'"%s"' % (b"x" * 2000)
            assert len(await answer(store.list("s"))) == 300
            assert len(await answer(store.keys("s"))) == 300
            assert await answer(store.scopes()) == ["s"]
            assert len((await answer(store.page("s", None, 50))).pairs) == 50
            # More than one statement, larger than what SQLite keeps in memory for undoing one.
            writes = [store.set("s", f"new{number}", b'"%s"' % (b"y" * 9000)) for number in range(200)]
            await asyncio.gather(*map(answer, [*writes, store.delete("s", "k2")]))
            await answer(store.set("s", "k1", b"1"))
        assert failures == []
        assert len(await answer(store.list("s"))) == 499


async def test_a_value_past_the_limit_of_sqlite_fails_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = schema.connect

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        return connection

    monkeypatch.setattr(schema, "connect", limited)
    async with open_store(tmp_path / "data") as store:
        failures: list[Any] = []
        store.on_failure = failures.append
        written = [answer(store.update("s", "k", lambda old: (old or b"") + b"x" * 30_000)) for _ in range(3)]
        await asyncio.gather(*written)
        for call in (
            lambda: store.update("s", "k", lambda old: (old or b"") + b"x" * 30_000),
            lambda: store.set("s", "new", b"x" * 200_000),
            lambda: store.set("s", "n" * 1_000, b"x" * 95_000),
            lambda: store.set("s", "n" * 50_000, b"1"),
        ):
            with pytest.raises(AdapterError, match=r"at most|too long"):
                await answer(call())
        assert await answer(store.get("s", "k")) == b"x" * 90_000
        assert await answer(store.keys("s")) == ["k"]
        assert (await answer(store.set("s", "k", b"1"))).new == b"1"
        assert failures == []
