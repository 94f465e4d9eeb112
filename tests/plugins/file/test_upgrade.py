"""Stores of the layout before this one are upgraded when they are opened: whole, or nothing is done."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from iii_state_file import schema
from support.file_store import answer, open_store, refusal

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
        assert other.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
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
            schema, "_UPGRADE_1", schema._UPGRADE_1.replace("DROP TABLE entries_1", "SELECT no FROM no")
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
