"""Damage of ends and versions is an error, never another answer; a copy has both."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from iii_state_file import FileAdapter, FileConfig
from iii_state_file.backup import back_up, check
from support.file_store import answer

from iii_skill.adapter import Expiry, HistorySettings
from iii_skill.errors import AdapterError, StoreRefused
from iii_skill.values import KEEP

AT = 4_102_444_800_000


async def opened(data: Path) -> FileAdapter:
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=str(data), history=HistorySettings()))
    return adapter


async def filled(data: Path) -> None:
    adapter = await opened(data)
    for number in range(3):
        await answer(adapter.set("s", "k", b"%d" % number))
    await answer(adapter.expire("s", "k", AT))
    await adapter.close()


def changed(data: Path, statement: str) -> None:
    with sqlite3.connect(data / "state.db") as other:
        other.execute(statement)
    other.close()


async def test_a_copy_has_ends_and_versions(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    adapter = await opened(tmp_path / "data")
    assert back_up(tmp_path / "data", tmp_path / "copy") == 1
    await adapter.close()
    copy = await opened(tmp_path / "copy")
    assert await answer(copy.expire("s", "k", KEEP)) == Expiry(True, AT)
    versions = await answer(copy.history("s", "k", None, 10))
    assert [version.value for version in versions] == [b"2", b"1", b"0"]
    await copy.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE expiries SET at_ms = at_ms + 1",
        "UPDATE packs SET body = x'39' WHERE body = x'31'",
        "UPDATE packs SET heads = x'' WHERE body = x'31'",
    ],
)
async def test_damage_is_told(tmp_path: Path, statement: str) -> None:
    data = tmp_path / "data"
    await filled(data)
    assert check(data) == 1
    changed(data, statement)
    with pytest.raises(StoreRefused, match="ends or versions"):
        check(data)
    adapter = await opened(data)
    asked = adapter.get("s", "k") if "expiries" in statement else adapter.history("s", "k", None, 10)
    with pytest.raises(AdapterError, match="damaged"):
        await answer(asked)
    await adapter.close()
