"""Damage is refused or named, whatever bit it took: no wrong value, no lost key, nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter, schema
from support.file_store import answer, open_store, opened, refusal

from iii_skill.errors import AdapterError, StorageFailed, StoreRefused

FLIPS = 120
SCOPES = [f"scope-{number}" for number in range(4)]


class Content:
    """What a store holds, and the ways it was left: closed, or as SIGKILL leaves it."""

    def __init__(self, home: Path) -> None:
        self.closed = home / "closed"
        self.crashed = home / "crashed"
        self.values: dict[tuple[str, str], bytes] = {}
        self.order: dict[str, list[str]] = {}
        self.revision = 0


async def made(home: Path) -> Content:
    """Values of many sizes, overwritten and deleted, over several commits."""
    content = Content(home)
    chance = random.Random(5)
    store = await opened(content.closed)
    for step in range(3):
        for number in range(48):
            name = (SCOPES[number % 4], f"key-{number}")
            size = chance.choice((3, 40, 200, 200, 5000))
            content.values[name] = b'"%d:%s"' % (step, bytes(chance.choices(range(97, 123), k=size)))
            writes = [store.set(*name, content.values[name]), store.set("one", "one", b"%d" % number)]
            await asyncio.gather(*map(answer, writes))
        for number in range(step, 48, 9):
            name = (SCOPES[number % 4], f"key-{number}")
            await answer(store.delete(*name))
            del content.values[name]
    content.values["one", "one"] = b"47"
    for scope in (*SCOPES, "one"):
        content.order[scope] = list(await answer(store.keys(scope)))
    content.revision = (await answer(store.delete("no", "no"))).revision
    copy(content.closed, content.crashed)
    await store.close()
    return content


def copy(store: Path, to: Path) -> None:
    """The files as SIGKILL leaves them; a new process makes its own `-shm`."""
    shutil.copytree(store, to, ignore=shutil.ignore_patterns("*-shm"))


def flip(file: Path, bit: int) -> None:
    """Change one bit."""
    with file.open("r+b") as damaged:
        damaged.seek(bit // 8)
        byte = damaged.read(1)[0]
        damaged.seek(bit // 8)
        damaged.write(bytes([byte ^ 1 << bit % 8]))


async def outcome(data: Path, content: Content) -> str:
    """How a store fares: refused, named or right; anything else fails the test."""
    store = FileAdapter()
    told: set[str] = set()
    try:
        try:
            await store.open(FileAdapter.config_type(data_dir=str(data)))
        except StoreRefused:
            return "refused"

        async def call(method: Callable[..., Any], *arguments: Any) -> Any:
            try:
                async with asyncio.timeout(20):
                    return await answer(method(*arguments))
            except AdapterError as named:
                told.add(named.message)
                return None

        for (scope, key), value in content.values.items():
            given = await call(store.get, scope, key)
            assert given == value or told, f"{key} is another value"
        for scope, order in content.order.items():
            before = len(told)
            keys = await call(store.keys, scope)
            assert keys is None or list(keys) == order
            pairs = await call(store.list, scope)
            assert pairs is None or pairs == [(key, content.values[scope, key]) for key in order]
            page = await call(store.page, scope, None, 5)
            assert page is None or [key for key, _ in page.pairs] == order[:5]
            assert len(told) >= before
        scopes = await call(store.scopes)
        assert scopes is None or sorted(scopes) == sorted(content.order)
        absent = await call(store.get, SCOPES[0], "nobody")
        assert absent is None
        change = await call(store.set, SCOPES[0], "fresh", b"1")
        assert change is None or change.revision > content.revision
    finally:
        async with asyncio.timeout(20):
            await store.close()
    assert all("damaged" in message for message in told)
    return "named" if told else "right"


@pytest.mark.parametrize("checked", [True, False], ids=["checked at the start", "too large for that"])
async def test_no_flipped_bit_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, checked: bool
) -> None:
    if not checked:
        monkeypatch.setattr(schema, "_CHECKED_BYTES", 0)
        monkeypatch.setattr(schema, "_CHECKED_BYTES_UNCLEAN", 0)
    content = await made(tmp_path)
    chance = random.Random(7)
    results: Counter[tuple[str, str]] = Counter()
    for kind, name in (("closed", "state.db"), ("crashed", "state.db"), ("crashed", "state.db-wal")):
        store = tmp_path / kind
        bits = (store / name).stat().st_size * 8
        # The first bytes of a file say how to read all others: each of them is a case of its own.
        for bit in [chance.randrange(1024) for _ in range(20)] + chance.choices(range(bits), k=FLIPS):
            copy(store, tmp_path / "try")
            flip(tmp_path / "try" / name, bit)
            results[f"{kind} {name}", await outcome(tmp_path / "try", content)] += 1
            shutil.rmtree(tmp_path / "try")
    assert results["closed state.db", "named"] > FLIPS // 4
    assert results["crashed state.db-wal", "right"] == 0


async def test_a_row_that_is_damaged_fails_its_own_calls_only(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        for number in range(3):
            await answer(store.set("s", f"k{number}", b'"value-%d"' % number))
        await answer(store.set("other", "k", b"1"))
    database = tmp_path / "data" / "state.db"
    database.write_bytes(database.read_bytes().replace(b'"value-1"', b'"value-9"'))
    async with open_store(tmp_path / "data") as store:
        failures: list[Any] = []
        store.on_failure = failures.append
        for call in (
            lambda: store.get("s", "k1"),
            lambda: store.set("s", "k1", b"1"),
            lambda: store.list("s"),
        ):
            with pytest.raises(AdapterError, match="row of key 'k1' in scope 's' is damaged"):
                await answer(call())
        assert await answer(store.get("s", "k2")) == b'"value-2"'
        assert await answer(store.keys("s")) == ["k0", "k1", "k2"]
        assert (await answer(store.set("other", "k", b"2"))).new == b"2"
        assert failures == []
    # As the page says: without it, all is well.
    with sqlite3.connect(database) as other:
        other.execute("DELETE FROM entries WHERE scope = 's' AND key = 'k1'")
    other.close()
    async with open_store(tmp_path / "data") as store:
        assert await answer(store.list("s")) == [("k0", b'"value-0"'), ("k2", b'"value-2"')]
        assert await answer(store.get("s", "k1")) is None


async def test_a_row_that_another_program_changed_is_named(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "k", b'"mine"'))
    with sqlite3.connect(tmp_path / "data" / "state.db") as other:
        other.execute("UPDATE entries SET value = ?", (b'"theirs"',))
    other.close()
    async with open_store(tmp_path / "data") as store:
        with pytest.raises(AdapterError, match="is damaged"):
            await answer(store.get("s", "k"))


async def test_a_key_that_another_program_made_stops_the_store_with_a_sentence(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        failures: list[Any] = []
        store.on_failure = failures.append
        assert await answer(store.get("s", "k")) is None
        with sqlite3.connect(tmp_path / "data" / "state.db") as other:
            other.execute("INSERT INTO entries VALUES (99, 's', 'k', 1, 1, x'31')")
        other.close()
        with pytest.raises(StorageFailed, match="another program wrote to its database"):
            await answer(store.set("s", "k", b"2"))
        assert len(failures) == 1


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.7, 0.999])
async def test_a_log_that_lost_flushed_changes_is_refused(
    tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    content = await made(tmp_path)
    log = content.crashed / "state.db-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[: int(len(whole) * share)])
    assert "so the last changes are lost" in await refusal(content.crashed)
    assert log.read_bytes() == whole[: int(len(whole) * share)]
    async with open_store(content.crashed, accept_data_loss=True) as store:
        assert await answer(store.set("s", "k", b"1"))
    assert "Started with data loss" in caplog.text
    # What is left is whole again.
    async with open_store(content.crashed):
        pass


async def test_an_end_of_the_log_that_nobody_was_told_of_is_dropped(tmp_path: Path) -> None:
    content = await made(tmp_path)
    log = content.crashed / "state.db-wal"
    whole = log.read_bytes()
    frame = 24 + 2048
    # The frames of one more commit with another content: cut in the middle, its flush never ended.
    for torn in (whole[-frame:], whole[-frame:-100], whole[-frame : -frame + 24]):
        log.write_bytes(whole + torn)
        copy(content.crashed, tmp_path / "try")
        assert await outcome(tmp_path / "try", content) == "right"
        shutil.rmtree(tmp_path / "try")


async def test_damage_in_the_middle_of_the_log_is_seen_without_the_lock_file_too(tmp_path: Path) -> None:
    content = await made(tmp_path)
    (content.crashed / "lock").unlink()
    copy(content.crashed, tmp_path / "whole")
    assert await outcome(tmp_path / "whole", content) == "right"
    size = (content.crashed / "state.db-wal").stat().st_size
    for place in (40, size // 2, size - 30):
        copy(content.crashed, tmp_path / "try")
        flip(tmp_path / "try" / "state.db-wal", place * 8)
        assert "is damaged" in await refusal(tmp_path / "try")
        shutil.rmtree(tmp_path / "try")


async def test_a_log_of_an_earlier_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iii_state_file.writer._CHECKPOINT_BYTES", 30_000)
    async with open_store(tmp_path / "data") as store:
        for number in range(10):
            await answer(store.set("s", "k", b"%d" % number))
        early = (tmp_path / "data" / "state.db-wal").read_bytes()
        for number in range(60):
            await answer(store.set("s", "k", b"%d" % number))
        copy(tmp_path / "data", tmp_path / "crashed")
    assert (tmp_path / "crashed" / "state.db-wal").read_bytes()[:32] != early[:32]
    (tmp_path / "crashed" / "state.db-wal").write_bytes(early)
    assert "older than what was written last" in await refusal(tmp_path / "crashed")


async def test_a_database_in_use_without_its_log_is_refused(tmp_path: Path) -> None:
    content = await made(tmp_path)
    (content.crashed / "state.db-wal").unlink()
    for _ in range(2):
        assert "its log state.db-wal is missing" in await refusal(content.crashed)
    (content.crashed / "lock").unlink()
    assert "its log state.db-wal is missing" in await refusal(content.crashed)
    async with open_store(content.crashed, accept_data_loss=True):
        pass


@pytest.mark.parametrize("empty", [True, False])
async def test_a_log_without_its_database_is_refused(tmp_path: Path, *, empty: bool) -> None:
    content = await made(tmp_path)
    database, log = content.crashed / "state.db", content.crashed / "state.db-wal"
    before = log.read_bytes()
    database.unlink()
    if empty:
        database.touch()
    assert "without its database" in await refusal(content.crashed)
    assert log.read_bytes() == before


async def test_an_emptied_database_is_refused(tmp_path: Path) -> None:
    content = await made(tmp_path)
    (content.closed / "state.db").write_bytes(b"")
    assert "was emptied" in await refusal(content.closed)
    (content.closed / "state.db").unlink()
    # Moved away, as the sentence says: that is how to start anew.
    async with open_store(content.closed) as store:
        assert await answer(store.scopes()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("CREATE TRIGGER spy AFTER UPDATE ON entries BEGIN SELECT 1; END", "holds 'spy'"),
        ("CREATE TABLE notes (text)", "holds 'notes'"),
        ("CREATE INDEX mine ON entries (revision)", "holds 'mine'"),
        ("DROP TABLE entries", "'entries' is missing"),
        ("DROP TABLE store", "'store' is missing"),
        ("DROP INDEX entries_again", "'entries_again' is missing"),
        ("ALTER TABLE entries ADD COLUMN note TEXT", "'entries' has another shape"),
        ("DELETE FROM store", "the row of table 'store'"),
        ("UPDATE store SET revision = 0", "the row of table 'store'"),
        ("PRAGMA user_version = 0", "has version 0"),
    ],
)
async def test_a_schema_that_is_not_ours_is_refused(tmp_path: Path, change: str, words: str) -> None:
    content = await made(tmp_path)
    other = sqlite3.connect(content.closed / "state.db", isolation_level=None)
    other.execute(change)
    other.close()
    before = (content.closed / "state.db").read_bytes()
    assert words in await refusal(content.closed)
    assert (content.closed / "state.db").read_bytes() == before


async def test_statistics_of_sqlite_are_no_foreign_table(tmp_path: Path) -> None:
    content = await made(tmp_path)
    other = sqlite3.connect(content.closed / "state.db", isolation_level=None)
    other.execute("ANALYZE")
    other.close()
    assert await outcome(content.closed, content) == "right"


@pytest.mark.parametrize("statement", ["SELECT count(*) FROM entries", "PRAGMA wal_checkpoint(TRUNCATE)"])
async def test_a_crashed_store_that_another_program_looked_at_opens(tmp_path: Path, statement: str) -> None:
    content = await made(tmp_path)
    await overwritten(content)
    # Whoever closes a database last moves the log into it.
    other = sqlite3.connect(content.crashed / "state.db", isolation_level=None)
    other.execute(statement).fetchall()
    other.close()
    assert not (content.crashed / "state.db-wal").exists()
    assert await outcome(content.crashed, content) == "right"


async def test_a_log_that_was_lost_before_it_was_moved_is_refused(tmp_path: Path) -> None:
    content = await made(tmp_path)
    await overwritten(content)
    for left in (None, b""):
        copy(content.crashed, tmp_path / "try")
        (tmp_path / "try" / "state.db-wal").unlink()
        if left is not None:
            (tmp_path / "try" / "state.db-wal").write_bytes(left)
        assert "so the last changes are" in await refusal(tmp_path / "try")
        shutil.rmtree(tmp_path / "try")


async def overwritten(content: Content) -> None:
    """Crash again, with a write as the last change."""
    async with open_store(content.crashed) as store:
        content.values["one", "one"] = b"48"
        await answer(store.set("one", "one", b"48"))
        copy(content.crashed, content.crashed.with_name("again"))
    shutil.rmtree(content.crashed)
    content.crashed = content.crashed.with_name("again")
