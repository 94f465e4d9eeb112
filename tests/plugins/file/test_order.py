"""Nothing shows a value before it is durable, and calls on one key are answered in their order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter
from iii_state_file.writer import BatchWriter
from support.file_store import answer, open_store

from iii_skill.values import KEEP, Change


@pytest.fixture
async def adapter(tmp_path: Path) -> AsyncIterator[FileAdapter]:
    """An open store with one key."""
    async with open_store(tmp_path / "data") as opened:
        await answer(opened.set("scope", "old", b"0"))
        yield opened


@contextmanager
def slow_commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Commits wait until the event is set: the disk takes its time."""
    gate = threading.Event()
    commit = BatchWriter._commit

    def wait_and_commit(writer: BatchWriter, batches: Any) -> None:
        assert gate.wait(30)
        commit(writer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(BatchWriter, "_commit", wait_and_commit)
        try:
            yield gate
        finally:
            gate.set()


async def turns(count: int = 20) -> None:
    """Let the event loop and the threads do what they can do now."""
    for _ in range(count):
        await asyncio.sleep(0.001)


def refuse(_old: bytes | None) -> bytes:
    """A change that fails."""
    raise ValueError("not now")


async def test_whatever_shows_an_uncommitted_value_waits(
    adapter: FileAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def follow(name: str, given: Any) -> asyncio.Future[Any]:
        future = asyncio.ensure_future(given)
        future.add_done_callback(lambda _: done.append(name))
        return future

    with slow_commits(monkeypatch) as gate:
        written = follow("set", adapter.set("scope", "old", b"1"))
        read = follow("get", adapter.get("scope", "old"))
        kept = follow("keep", adapter.update("scope", "old", lambda old: KEEP))
        failed = follow("error", adapter.update("scope", "old", refuse))
        again = follow("update", adapter.update("scope", "old", lambda old: (old or b"") + b"2"))
        listed = follow("list", adapter.list("scope"))
        scopes = follow("scopes", adapter.scopes())
        new = follow("new", adapter.set("other", "new", b"3"))
        await turns()
        late = follow("late", adapter.get("other", "new"))
        await turns()
        assert done == []
        gate.set()
        await asyncio.wait([written, read, kept, failed, again, listed, scopes, new, late])
    assert done[:5] == ["set", "get", "keep", "error", "update"]
    assert written.result() == Change("scope", "old", b"0", b"1", written.result().revision)
    assert read.result() == b"1"
    assert kept.result() == Change("scope", "old", b"1", b"1", 0)
    assert isinstance(failed.exception(), ValueError)
    assert again.result().new == b"12"
    assert list(listed.result()) == [("old", b"12")]
    assert "scope" in scopes.result()
    assert late.result() == b"3"


async def test_other_keys_are_answered_while_a_commit_is_slow(
    adapter: FileAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answer(adapter.set("scope", "other", b"7"))
    with slow_commits(monkeypatch):
        writing = adapter.set("scope", "old", b"1")
        await turns()
        assert adapter.get("scope", "other") == b"7"
        assert adapter.update("scope", "other", lambda _old: KEEP) == Change("scope", "other", b"7", b"7", 0)
        assert await answer(adapter.get("scope", "never")) is None
    await answer(writing)


async def test_answers_of_one_key_come_in_the_order_of_the_calls(adapter: FileAdapter) -> None:
    order: list[int] = []
    futures = []
    for index in range(200):
        call = adapter.get("fresh", "key") if index % 3 == 2 else adapter.set("fresh", "key", b"%d" % index)
        future = asyncio.ensure_future(call)  # type: ignore[arg-type]
        future.add_done_callback(lambda _, index=index: order.append(index))
        futures.append(future)
        if index % 50 == 49:
            await asyncio.sleep(0)
    await asyncio.gather(*futures)
    assert order == list(range(200))
    assert futures[-1].result().new == b"199"


async def test_a_write_was_accepted_whether_or_not_its_caller_stays(adapter: FileAdapter) -> None:
    for key in ("old", "unread"):
        caller = asyncio.ensure_future(answer(adapter.set("scope", key, b"1")))
        await asyncio.sleep(0)
        caller.cancel()
        assert await answer(adapter.get("scope", key)) == b"1"
        assert caller.cancelled()


async def test_delete_and_set_in_one_commit_moves_to_the_end(adapter: FileAdapter) -> None:
    calls = [adapter.set("scope", key, b"1") for key in ("a", "b")]
    calls += [adapter.delete("scope", "old"), adapter.delete("scope", "a"), adapter.set("scope", "old", b"2")]
    calls += [adapter.set("scope", "a", b"3"), adapter.delete("scope", "b"), adapter.set("scope", "c", b"4")]
    await asyncio.gather(*map(answer, calls))
    assert list(await answer(adapter.list("scope"))) == [("old", b"2"), ("a", b"3"), ("c", b"4")]
    assert list(await answer(adapter.keys("scope"))) == ["old", "a", "c"]
    await answer(adapter.delete("scope", "old"))
    await answer(adapter.set("scope", "old", b"5"))
    assert list(await answer(adapter.keys("scope"))) == ["a", "c", "old"]
