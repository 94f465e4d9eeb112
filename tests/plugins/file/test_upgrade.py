"""Stores of the layout before this one are upgraded when they are opened: whole, or nothing is done."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import time
from pathlib import Path

import pytest
from iii_state_file import backup, layout_3, layouts
from iii_state_file.checksums import name_checksum, revision_checksum, row_checksum
from support.file_store import answer, open_store, refusal

from iii_skill.adapter import Expiry, HistorySettings
from iii_skill.errors import AdapterError

KEYS = 300

# As the first release made it, to the letter.
LAYOUT_1 = """
PRAGMA page_size = 2048;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE entries (
  position INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  revision INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_key ON entries (scope, key);
CREATE INDEX entries_by_scope ON entries (scope);
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0, 1);
PRAGMA application_id = 1768515955;
PRAGMA user_version = 1;
COMMIT;
"""

# As releases with layout 2 made it.
LAYOUT_2 = """
PRAGMA page_size = 2048;
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE entries (
  position INTEGER PRIMARY KEY,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_key ON entries (scope, key);
CREATE INDEX entries_by_scope ON entries (scope);
CREATE INDEX entries_again ON entries (key, scope);
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  checksum INTEGER NOT NULL,
  clean INTEGER NOT NULL
) STRICT;
PRAGMA application_id = 1768515955;
PRAGMA user_version = 2;
COMMIT;
"""


# As releases with layout 3 made it: LAYOUT_2, and this.
ADDED_3 = """
BEGIN IMMEDIATE;
CREATE TABLE expiries (
  position INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX expiries_by_moment ON expiries (at_ms);
CREATE TABLE history (
  revision INTEGER PRIMARY KEY,
  previous INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  checksum INTEGER NOT NULL,
  value BLOB
) STRICT;
CREATE INDEX history_gone ON history (scope, key) WHERE value IS NULL;
PRAGMA user_version = 3;
COMMIT;
"""


def value(number: int) -> bytes:
    """A value, some of them on several pages."""
    return b'"%d%s"' % (number, b"x" * (number * 37 % 5000))


def old_store(home: Path, *, clean: bool) -> Path:
    """A store as the old code left it: closed, or killed with its last changes in the log alone."""
    data = home / "data"
    data.mkdir(parents=True)
    (data / "lock").write_text("process 4711 (iii-skill serve)\n")
    connection = sqlite3.connect(data / "state.db", isolation_level=None)
    connection.executescript(LAYOUT_1)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("UPDATE store SET clean = 0")
    connection.execute("BEGIN")
    connection.execute("UPDATE store SET revision = 1000000")
    for number in range(KEYS):
        row = (number + 1, f"s{number % 3}", f"k{KEYS - number}", value(number), number + 1)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)
    connection.execute("COMMIT")
    connection.execute("DELETE FROM entries WHERE position = 7")
    if clean:
        connection.execute("UPDATE store SET clean = 1, revision = ?", (KEYS + 1,))
        connection.close()
        return data
    crashed = home / "crashed"
    shutil.copytree(data, crashed, ignore=shutil.ignore_patterns("*-shm"))
    connection.close()
    shutil.rmtree(data)
    return crashed


def store_of_layout_2(home: Path) -> Path:
    """A store with layout 2, closed."""
    data = home / "data"
    data.mkdir(parents=True)
    (data / "lock").write_text("process 4711 (iii-skill serve)\n")
    connection = sqlite3.connect(data / "state.db", isolation_level=None)
    connection.executescript(LAYOUT_2)
    for number in range(KEYS):
        if number == 6:
            continue
        scope, key, place = f"s{number % 3}", f"k{KEYS - number}", number + 1
        checksum = row_checksum(name_checksum(scope, key), place, place, value(number))
        row = (place, scope, key, place, checksum, value(number))
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO store VALUES (1, ?, ?, 1)", (KEYS + 1, revision_checksum(KEYS + 1)))
    connection.close()
    return data


def store_of_layout_3(home: Path) -> tuple[Path, dict[str, list[tuple[int, bytes | None]]]]:
    """A store with layout 3 that kept versions, closed; and the versions."""
    data = store_of_layout_2(home)
    connection = sqlite3.connect(data / "state.db", isolation_level=None)
    connection.executescript(ADDED_3)
    connection.execute("DELETE FROM entries")
    connection.execute("BEGIN")
    at_ms = int(time.time() * 1000) - 3_600_000
    kept: dict[str, list[tuple[int, bytes | None]]] = {}
    more = b'{"at_ms":%d,"left_at":%d}' % (at_ms, 1002)
    start = name_checksum("iii-skill::history", "")
    floor = (-1, 100, 0, at_ms, "iii-skill::history", "", row_checksum(start, 100, -1, more), more)
    connection.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)", floor)
    rows: dict[str, tuple[int, int, bytes]] = {}
    for revision in range(101, 1001):
        key = f"k{revision * 7 % 40}"
        place = rows[key][0] if key in rows else revision
        was = kept.setdefault(key, [])
        previous = was[-1][0] if was else 0
        held = None if revision % 11 == 5 and key in rows else value(revision)
        number = len(was) + 1 if key in rows else -1 - len(was)
        start = name_checksum("s", key)
        checksum = row_checksum(start, previous if number > 0 else ~previous, revision, held or b"")
        moment = at_ms + revision // 50
        version = (revision, previous, number, moment, "s", key, checksum, held)
        connection.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)", version)
        was.append((revision, held))
        rows.pop(key, None)
        if held is not None:
            rows[key] = (place, revision, held)
    for key, (place, revision, held) in rows.items():
        checksum = row_checksum(name_checksum("s", key), place, revision, held)
        entry = (place, "s", key, revision, checksum, held)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", entry)
    connection.execute("UPDATE store SET revision = 1002, checksum = ?", (revision_checksum(1002),))
    connection.execute("COMMIT")
    connection.close()
    return data, kept


async def test_a_store_of_layout_3_keeps_its_versions(tmp_path: Path) -> None:
    data, kept = store_of_layout_3(tmp_path)
    for _ in range(2):
        async with open_store(data, history=HistorySettings(keep=50)) as store:
            for key, versions in kept.items():
                found = await answer(store.history("s", key, None, 1000))
                assert [(one.revision, one.value) for one in found] == versions[::-1]
            now = await answer(store.moment_at(int(time.time() * 1000)))
            for moment in (now, 600, 150):
                page = await answer(store.past(moment, None, 1000))
                told = {one.key: one.value for one in page.keys if one.value is not None}
                then = {key: [held for at, held in some if at <= moment] for key, some in kept.items()}
                assert told == {key: some[-1] for key, some in then.items() if some and some[-1] is not None}
            change = await answer(store.set("s", "k7", b"7"))
            kept["k7"].append((change.revision, b"7"))
            await store.maintain()
        assert backup.check(data) > 0
    with sqlite3.connect(data / "state.db") as other:
        assert other.execute("SELECT count(*) FROM packs").fetchone()[0] < 100
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()


def to_layout_4(data: Path) -> None:
    """As layout 4 had it: no checksum of the body, all values in it."""
    other = sqlite3.connect(data / "state.db")
    rows = other.execute("SELECT last, at_ms, heads FROM packs WHERE last > 0").fetchall()
    for last, at_ms, heads in rows:
        count = len(heads) // 36
        after, _, *fields = struct.unpack(f"<{2 + 2 * count}q{5 * count}I", heads)
        heads = struct.pack(f"<{1 + 2 * count}q{4 * count}I", after, *fields[: 6 * count])
        checksum = row_checksum(0, last, at_ms, heads)
        other.execute("UPDATE packs SET heads = ?, checksum = ? WHERE last = ?", (heads, checksum, last))
    other.execute("PRAGMA user_version = 4")
    other.commit()
    other.close()


async def test_a_store_of_layout_4_keeps_its_versions(tmp_path: Path) -> None:
    # That upgrade has all values in their packs, as layout 4 had.
    data, kept = store_of_layout_3(tmp_path)
    async with open_store(data):
        pass
    to_layout_4(data)
    with sqlite3.connect(data / "state.db") as other:
        other.execute("UPDATE packs SET checksum = checksum + 1 WHERE last = (SELECT max(last) FROM packs)")
    other.close()
    async with open_store(data, history=HistorySettings(keep=50)) as store:
        damaged = 0
        for key, versions in kept.items():
            try:
                found = await answer(store.history("s", key, None, 1000))
            except AdapterError as error:
                damaged += "damaged" in error.message
            else:
                assert [(one.revision, one.value) for one in found] == versions[::-1]
                change = await answer(store.set("s", key, value(700)))
                again = await answer(store.history("s", key, None, 2))
                assert [one.value for one in again] == [change.new, versions[-1][1]]
        assert 0 < damaged < len(kept)


async def test_damage_in_a_store_of_layout_3_is_damage_afterwards(tmp_path: Path) -> None:
    data, kept = store_of_layout_3(tmp_path)
    with sqlite3.connect(data / "state.db") as other:
        other.execute("UPDATE history SET value = x'31' WHERE revision = 700")
    other.close()
    (key,) = (key for key, some in kept.items() if any(at == 700 for at, _ in some))
    async with open_store(data, history=HistorySettings(keep=50)) as store:
        with pytest.raises(AdapterError, match="damaged"):
            await answer(store.history("s", key, None, 1000))
        for sound in kept.keys() - {key}:
            assert len(await answer(store.history("s", sound, None, 1000))) == len(kept[sound])


async def test_an_upgrade_of_layout_3_that_fails_leaves_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, kept = store_of_layout_3(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(layout_3, "INSERT_GONE", "INSERT INTO no VALUES (?, ?, ?, ?)")
        await refusal(data)
    other = sqlite3.connect(f"{(data / 'state.db').as_uri()}?mode=ro", uri=True)
    assert other.execute("PRAGMA user_version").fetchone() == (3,)
    assert other.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'packs'").fetchone() == (0,)
    other.close()
    async with open_store(data, history=HistorySettings(keep=50)) as store:
        assert len(await answer(store.history("s", "k7", None, 1000))) == len(kept["k7"])


async def test_a_store_of_layout_2_is_upgraded_and_its_keys_can_end(tmp_path: Path) -> None:
    data = store_of_layout_2(tmp_path)
    with sqlite3.connect(data / "state.db") as other:
        pages = other.execute("PRAGMA page_count").fetchone()[0]
    other.close()
    await check(data, above=KEYS + 1)
    async with open_store(data) as store:
        assert await answer(store.expire("s1", "k299", 1)) == Expiry(True, 1)
    async with open_store(data) as store:
        assert await answer(store.get("s1", "k299")) is None
        assert await store.sweep() is None
        assert len(await answer(store.list("s1"))) == KEYS // 3 - 1
    with sqlite3.connect(data / "state.db") as other:
        assert other.execute("PRAGMA user_version").fetchone() == (layouts.SCHEMA_VERSION,)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert other.execute("SELECT count(*) FROM expiries").fetchone() == (0,)
        # Nothing was copied.
        assert other.execute("PRAGMA page_count").fetchone()[0] <= pages + 8
    other.close()


async def test_an_upgrade_of_layout_2_that_fails_leaves_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = store_of_layout_2(tmp_path)
    with monkeypatch.context() as patch:
        broken = layouts._UPGRADE_2.replace("PRAGMA user_version", "SELECT no FROM no; PRAGMA user_version")
        patch.setattr(layouts, "_UPGRADE_2", broken)
        await refusal(data)
    other = sqlite3.connect(f"{(data / 'state.db').as_uri()}?mode=ro", uri=True)
    assert other.execute("PRAGMA user_version").fetchone() == (2,)
    assert other.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'expiries'").fetchone() == (0,)
    other.close()
    await check(data, above=KEYS + 1)


async def check(data: Path, *, above: int) -> None:
    """All is there, in order, and goes on with higher revisions."""
    async with open_store(data) as store:
        for scope in range(3):
            numbers = [number for number in range(KEYS) if number % 3 == scope and number != 6]
            pairs = await answer(store.list(f"s{scope}"))
            assert pairs == [(f"k{KEYS - number}", value(number)) for number in numbers]
            for number in numbers[::10]:
                assert await answer(store.get(f"s{scope}", f"k{KEYS - number}")) == value(number)
        change = await answer(store.set("new", "k", b"1"))
        assert change.revision > above
        await answer(store.delete("s0", "k300"))
        await answer(store.set("s0", "k300", value(0)))
        assert (await answer(store.keys("s0")))[-1] == "k300"
        # As it was, for the next check.
        await answer(store.delete("new", "k"))


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
async def test_a_store_of_the_old_layout_is_upgraded(tmp_path: Path, *, clean: bool) -> None:
    data = old_store(tmp_path, clean=clean)
    await check(data, above=KEYS + 1 if clean else 1_000_000)
    with sqlite3.connect(data / "state.db") as other:
        assert other.execute("PRAGMA user_version").fetchone() == (layouts.SCHEMA_VERSION,)
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    other.close()
    async with open_store(data) as store:
        assert len(await answer(store.list("s1"))) == KEYS // 3


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
async def test_an_upgrade_that_fails_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, clean: bool
) -> None:
    data = old_store(tmp_path, clean=clean)
    with monkeypatch.context() as patch:
        # The disk is full after all rows were copied.
        patch.setattr(
            layouts, "_UPGRADE_1", layouts._UPGRADE_1.replace("DROP TABLE entries_1", "SELECT no FROM no")
        )
        await refusal(data)
    other = sqlite3.connect(f"{(data / 'state.db').as_uri()}?mode=ro", uri=True)
    assert other.execute("SELECT count(*) FROM entries").fetchone() == (KEYS - 1,)
    assert other.execute("PRAGMA user_version").fetchone() == (1,)
    other.close()
    await check(data, above=KEYS + 1)


async def test_an_old_store_that_is_damaged_is_refused_as_it_is(tmp_path: Path) -> None:
    data = old_store(tmp_path, clean=True)
    content = bytearray((data / "state.db").read_bytes())
    content[2048 * 3 : 2048 * 3 + 600] = b"\x5a" * 600
    (data / "state.db").write_bytes(content)
    assert "is damaged" in await refusal(data)
    assert (data / "state.db").read_bytes() == content


async def test_an_old_store_without_its_log_is_refused(tmp_path: Path) -> None:
    data = old_store(tmp_path, clean=False)
    with sqlite3.connect(data / "state.db") as other:
        other.execute("PRAGMA wal_checkpoint")
    other.close()
    assert not (data / "state.db-wal").exists()
    assert "its log state.db-wal is missing" in await refusal(data)
    async with open_store(data, accept_data_loss=True) as store:
        assert len(await answer(store.list("s1"))) == KEYS // 3
