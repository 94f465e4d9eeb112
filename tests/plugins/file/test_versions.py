"""Versions in the database: packed by the tick, dropped in steps, and no damage of them is silent."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter, FileConfig, packs, schema, trimming
from iii_state_file.backup import check
from support.file_store import answer, open_store

from iii_skill.adapter import HistorySettings
from iii_skill.clock import Clock
from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import Change

DAY_MS = 86_400_000
Shown = list[tuple[int, bytes | None]]


class Hand(Clock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at


async def opened(data: Path, clock: Clock | None = None, **bounds: Any) -> FileAdapter:
    adapter = FileAdapter()
    if clock is not None:
        adapter.clock = clock
    await adapter.open(FileConfig(data_dir=str(data), history=HistorySettings(**bounds)))
    return adapter


async def history(store: FileAdapter, key: str) -> Shown:
    found = await answer(store.history("s", key, None, 10_000))
    return [(version.revision, version.value) for version in found]


def made(*changes: Change) -> Shown:
    return [(change.revision, change.new) for change in reversed(changes)]


def some_value(chance: random.Random, step: int) -> bytes:
    """Small, or large and much like others of its kind, or like none."""
    kind = chance.randrange(4)
    number = b"%d" % step
    if kind == 0:
        return number
    if kind == 1:
        return chance.randbytes(chance.randrange(200, 900))
    filler = b"x" * (500 if kind == 2 else chance.randrange(180, 700))
    at = chance.choice((0, 3, 200, len(filler)))
    return filler[:at] + number + filler[at:]


def held(data: Path) -> int:
    """How many versions the database holds."""
    connection = sqlite3.connect(data / "state.db")
    rows = connection.execute("SELECT last, at_ms, checksum, heads FROM packs WHERE last > 0").fetchall()
    connection.close()
    return sum(len(packs.read_pack(row).deltas) for row in rows)


async def test_all_versions_of_one_tick_are_kept(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    large = b'"%s"' % (b"x" * 100_000)
    calls = [
        *(store.set("s", "k", b"%d" % number) for number in range(3)),
        store.delete("s", "k"),
        store.delete("s", "k"),
        store.set("s", "k", large),
        store.set("s", "k", b"9"),
        store.set("s", "large", large),
        store.set("s", "gone", b"1"),
        store.delete("s", "gone"),
    ]
    changes = await asyncio.gather(*map(answer, calls))
    del changes[4]
    for _ in range(2):
        assert await history(store, "k") == made(*changes[:6])
        assert await history(store, "large") == made(changes[6])
        assert await history(store, "gone") == made(*changes[7:])
        await store.close()
        assert check(tmp_path / "data") == 2
        store = await opened(tmp_path / "data")
    again = await answer(store.set("s", "gone", b"2"))
    assert await history(store, "gone") == made(*changes[7:], again)
    await store.close()


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 1000])
async def test_the_versions_of_a_tick_of_any_size_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(packs, "_PACK_BYTES", 1000)
    store = await opened(tmp_path / "data")
    rounds = [
        await asyncio.gather(
            *(answer(store.set("s", f"k{number}", b"%d" % number)) for number in range(count))
        )
        for _ in range(3)
    ]
    await store.close()
    assert check(tmp_path / "data") == count
    store = await opened(tmp_path / "data")
    for number in range(0, count, 9):
        assert await history(store, f"k{number}") == made(*(changes[number] for changes in rounds))
    await store.close()


async def filled(data: Path) -> dict[str, Shown]:
    """Keys with several versions in several packs, some of them gone."""
    store = await opened(data)
    changes: dict[str, list[Change]] = {}
    for step in range(8):
        keys = [f"key-{number}" for number in range(step % 3, 24, 2)]
        calls = [
            store.delete("s", key)
            if (step + at) % 5 == 4
            else store.set("s", key, b'"%d%s"' % (step, b"v" * at * 40))
            for at, key in enumerate(keys)
        ]
        for change in await asyncio.gather(*map(answer, calls)):
            if change.old is not None or change.new is not None:
                changes.setdefault(change.key, []).append(change)
    await store.close()
    return {key: made(*some) for key, some in changes.items()}


async def test_no_flipped_bit_of_versions_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_CHECKED_BYTES", 0)
    content = await filled(tmp_path / "data")
    assert any(shown[0][1] is None for shown in content.values())
    chance = random.Random(3)
    bits = (tmp_path / "data" / "state.db").stat().st_size * 8
    results: Counter[str] = Counter()
    for bit in chance.choices(range(800, bits), k=150):
        shutil.copytree(tmp_path / "data", tmp_path / "try")
        with (tmp_path / "try" / "state.db").open("r+b") as file:
            file.seek(bit // 8)
            byte = file.read(1)[0]
            file.seek(bit // 8)
            file.write(bytes([byte ^ 1 << bit % 8]))
        results[await _outcome(tmp_path / "try", content)] += 1
        shutil.rmtree(tmp_path / "try")
    assert results["named"] > 20


async def _outcome(data: Path, content: dict[str, Shown]) -> str:
    told: list[str] = []
    try:
        store = await opened(data)
    except StoreRefused:
        return "refused"
    try:
        for key, shown in content.items():
            try:
                async with asyncio.timeout(20):
                    assert await history(store, key) == shown
            except AdapterError as error:
                told.append(error.message)
    finally:
        await store.close()
    assert all("damaged" in message for message in told)
    return "named" if told else "right"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE packs SET heads = {}(heads) WHERE last > 0",
        "UPDATE packs SET body = {}(body)",
        "UPDATE packs SET at_ms = at_ms + 1 WHERE last > 0",
        "UPDATE packs SET last = last + 1 WHERE last = (SELECT max(last) FROM packs)",
        "UPDATE packs SET last = last - 1 WHERE last = (SELECT max(last) FROM packs)",
        "UPDATE packs SET checksum = checksum + 1 WHERE last > 0",
        "DELETE FROM packs WHERE last > 0 AND last < (SELECT max(last) FROM packs)",
        "UPDATE gone SET revision = revision + 1",
        "UPDATE gone SET key = 'other'",
    ],
)
async def test_damage_of_a_row_is_told(tmp_path: Path, statement: str) -> None:
    data = tmp_path / "data"
    store = await opened(data)
    for key in ("k", "gone"):
        for number in range(3):
            await answer(store.set("s", key, b"%d" % number))
    await answer(store.delete("s", "nobody"))
    await answer(store.delete("s", "gone"))
    await store.close()
    connection = sqlite3.connect(data / "state.db")
    connection.create_function("flipped", 1, lambda blob: bytes([blob[0] ^ 1]) + blob[1:] if blob else blob)
    connection.execute(statement.format("flipped"))
    connection.commit()
    connection.close()
    with pytest.raises(StoreRefused, match="ends or versions"):
        check(data)
    if "'other'" in statement:
        # The name is another one now, as in a store whose names are checked by nobody but `check`.
        return
    told = []
    store = await opened(data)
    for key in ("k", "gone"):
        try:
            await history(store, key)
        except AdapterError as error:
            told.append(error.message)
    await store.close()
    assert told
    assert all("damaged" in message for message in told)


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_not_shown_is_dropped_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(trimming, "_STEP", 40)
    if seed % 2:
        monkeypatch.setattr(trimming, "_CHAINS", 6)
    data = tmp_path / "data"
    chance = random.Random(seed)
    clock = Hand()
    bounds: dict[str, Any] = {"keep": 3, "days": 3650} if seed % 3 else {"keep": 1000, "days": 1}
    store = await opened(data, clock, **bounds)
    shown: dict[str, list[tuple[int, int, bytes | None]]] = {}
    for step in range(160):
        clock.at += chance.uniform(60, 3600)
        at_ms = int(clock.at * 1000)
        calls = []
        for _ in range(chance.randrange(1, 12)):
            key = f"key-{chance.randrange(30)}"
            calls.append(
                store.delete("s", key)
                if chance.random() < 0.3
                else store.set("s", key, some_value(chance, step))
            )
        for change in await asyncio.gather(*map(answer, calls)):
            if change.old is not None or change.new is not None:
                shown.setdefault(change.key, []).append((change.revision, at_ms, change.new))
        if step % 4 == 3:
            await store.maintain()
        if step % 50 == 30:
            await store.close()
            store = await opened(data, clock, **bounds)
    clock.at += 1800
    for _ in range(400):
        await store.maintain()
        await answer(store.scopes())
    total = 0
    since = int(clock.at * 1000) - int(bounds["days"] * DAY_MS)
    for key, versions in shown.items():
        left = [
            (revision, value)
            for (revision, at_ms, value), following in zip(versions, [*versions[1:], None], strict=True)
            if (following[1] if following is not None else at_ms if value is None else since) >= since
        ]
        left = left[-bounds["keep"] :]
        assert await history(store, key) == left[::-1]
        total += len(left)
    await store.close()
    check(data)
    # Of a pack less than half may be left over.
    assert total <= held(data) <= 2 * total + 12
    async with open_store(data) as without:
        await answer(without.set("s", "key-0", b"0"))


@pytest.mark.parametrize("seed", range(4))
async def test_large_values_are_told_byte_for_byte(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "data"
    chance = random.Random(seed)
    changes: dict[str, list[Change]] = {}
    for _ in range(4):
        store = await opened(data, keep=10_000)
        for step in range(40):
            calls = []
            for _ in range(chance.randrange(1, 6)):
                key = f"key-{chance.randrange(4)}"
                value = some_value(chance, step)
                calls.append(store.delete("s", key) if chance.random() < 0.2 else store.set("s", key, value))
            for change in await asyncio.gather(*map(answer, calls)):
                if change.old is not None or change.new is not None:
                    changes.setdefault(change.key, []).append(change)
        for key, some in changes.items():
            assert await history(store, key) == made(*some)
            middle = some[len(some) // 2]
            page = await answer(store.past(middle.revision, None, 100))
            assert [one.value for one in page.keys if one.key == key] == [middle.new]
        await store.close()
        check(data)


async def test_a_large_value_that_changes_little_is_not_written_twice(tmp_path: Path) -> None:
    store = await opened(tmp_path / "data")
    for number in range(50):
        await answer(store.set("s", "k", b'{"n":%d,"text":"%s"}' % (number, b"x" * 10_000)))
    await store.close()
    connection = sqlite3.connect(tmp_path / "data" / "state.db")
    (size,) = connection.execute("SELECT sum(length(body)) FROM packs").fetchone()
    connection.close()
    assert size < 50 * 200


async def test_what_was_overwritten_without_the_setting_is_dropped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = await opened(data)
    for number in range(3):
        await answer(store.set("s", "k", b"%d" % number))
    await answer(store.set("s", "still", b"1"))
    await store.close()
    async with open_store(data) as without:
        await answer(without.set("s", "k", b"3"))
    store = await opened(data)
    last = await answer(store.set("s", "k", b"4"))
    assert await history(store, "k") == made(last)
    for _ in range(3):
        await store.maintain()
    assert await history(store, "k") == made(last)
    assert [value for _, value in await history(store, "still")] == [b"1"]
    await store.close()
    check(data)
    assert held(data) == 2


async def test_a_damaged_pack_stays_and_is_told_while_others_are_dropped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store = await opened(data, keep=2)
    for number in range(6):
        await answer(store.set("s", "k", b"%d" % number))
        await answer(store.set("s", "other", b"%d" % number))
    await store.close()
    connection = sqlite3.connect(data / "state.db")
    last = connection.execute("SELECT last FROM packs ORDER BY last DESC LIMIT 1 OFFSET 2").fetchone()
    connection.execute("UPDATE packs SET checksum = checksum + 1 WHERE last = ?", last)
    connection.commit()
    connection.close()
    store = await opened(data, keep=2)
    for _ in range(3):
        await store.maintain()
    with pytest.raises(AdapterError, match="damaged"):
        await history(store, "other")
    assert [value for _, value in await history(store, "k")] == [b"5", b"4"]
    await store.close()
    assert held_rows(data) < 12


def held_rows(data: Path) -> int:
    connection = sqlite3.connect(data / "state.db")
    count: int = connection.execute("SELECT count(*) FROM packs WHERE last > 0").fetchone()[0]
    connection.close()
    return count
