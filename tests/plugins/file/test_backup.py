"""The page on back-up and restore, executed; a copy is of one moment, whole, or not there."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from iii_state_file.backup import back_up, check
from support.file_store import answer, open_store
from support.markdown import blocks
from support.tree import ROOT

from iii_skill.errors import StoreRefused

PAGE = ROOT / "references" / "operations.md"


def run_block(directive: str, home: Path) -> str:
    """Run a block of the page as a shell script in a directory; what it printed."""
    (block,) = [block for block in blocks(PAGE) if (block.language, block.directive) == ("bash", directive)]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euc", block.text],
        cwd=home,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def test_the_page_backs_up_a_running_store_and_restores_it(tmp_path: Path) -> None:
    data = tmp_path / ".iii" / "state"
    async with open_store(data) as store:
        for number in range(100):
            await answer(store.set("s", f"k{number}", b'"before %d"' % number))
        told = await asyncio.to_thread(run_block, "backup", tmp_path)
        assert told == "backups/monday: 100 keys, all of them checked.\n"
        assert "100 keys" in await asyncio.to_thread(run_block, "check", tmp_path)
        change = await answer(store.set("s", "k0", b'"after"'))
    assert sorted(file.name for file in (tmp_path / "backups" / "monday").iterdir()) == ["state.db"]
    run_block("restore", tmp_path)
    async with open_store(data) as store:
        assert await answer(store.list("s")) == [(f"k{n}", b'"before %d"' % n) for n in range(100)]
        # Revisions never come back, not even after a restore within one claim of them.
        assert (await answer(store.set("s", "k0", b"1"))).revision > change.revision
    async with open_store(tmp_path / ".iii" / "state.before") as store:
        assert await answer(store.get("s", "k0")) == b'"after"'


async def test_a_copy_is_of_one_moment_while_others_write(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        acknowledged = 0
        going = True

        async def write() -> None:
            nonlocal acknowledged
            while going:
                # Both keys in one tick: one commit.
                await asyncio.gather(*(answer(store.set("s", key, b"%d" % acknowledged)) for key in "ab"))
                acknowledged += 1

        writer = asyncio.create_task(write())
        for number in range(5):
            before = acknowledged
            await asyncio.to_thread(back_up, tmp_path / "data", tmp_path / f"copy-{number}")
            async with open_store(tmp_path / f"copy-{number}") as copy:
                pairs = dict(await answer(copy.list("s")))
                if before:
                    assert pairs["a"] == pairs["b"]
                    assert before - 1 <= int(pairs["a"]) <= acknowledged
        going = False
        await writer


async def test_a_crashed_store_is_looked_at_before_it_is_copied(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        for number in range(20):
            await answer(store.set("s", f"k{number}", b"1"))
        shutil.copytree(tmp_path / "data", tmp_path / "crashed", ignore=shutil.ignore_patterns("*-shm"))
    log = tmp_path / "crashed" / "state.db-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[:-3000])
    with pytest.raises(StoreRefused, match="the last changes are lost"):
        back_up(tmp_path / "crashed", tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []
    log.write_bytes(whole)
    assert back_up(tmp_path / "crashed", tmp_path / "copy") == 20
    assert check(tmp_path / "crashed") == check(tmp_path / "copy") == 20


async def test_a_damaged_store_gives_no_copy(tmp_path: Path) -> None:
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "k", b'"value"'))
    database = tmp_path / "data" / "state.db"
    database.write_bytes(database.read_bytes().replace(b'"value"', b'"valuf"'))
    for call in (lambda: back_up(tmp_path / "data", tmp_path / "copy"), lambda: check(tmp_path / "data")):
        with pytest.raises(StoreRefused, match="row of key 'k' in scope 's'"):
            call()
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("wrong", ["no store", "not empty", "a file"])
async def test_wrong_directories_are_refused_with_a_sentence(tmp_path: Path, wrong: str) -> None:
    async with open_store(tmp_path / "data") as store:
        await answer(store.set("s", "k", b"1"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    source, target = {
        "no store": (tmp_path / "full", tmp_path / "copy"),
        "not empty": (tmp_path / "data", tmp_path / "full"),
        "a file": (tmp_path / "data", tmp_path / "file"),
    }[wrong]
    with pytest.raises(StoreRefused, match=r": .+\.$"):
        back_up(source, target)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(file.name for file in (tmp_path / "full").iterdir()) == ["mine"]
