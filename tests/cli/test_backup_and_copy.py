"""`state backup` beside a running host, and `state copy` over the end of the host that it writes to."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.client import raw_client
from support.host import running_host

from iii_skill import open_host

COMMAND = [sys.executable, "-m", "iii_skill", "state"]


async def fill(directory: Path, count: int) -> None:
    async with open_host(adapter="file", adapter_config={"data_dir": str(directory)}) as host:
        for start in range(0, count, 1000):
            rows = [{"scope": "s", "key": f"k{n}", "value": n} for n in range(start, start + 1000)]
            await asyncio.gather(*(host.trigger("state::set", row) for row in rows))


async def content(directory: Path) -> list[tuple[str, bytes]]:
    async with open_host(adapter="file", adapter_config={"data_dir": str(directory)}) as host:
        assert host.adapter is not None
        found: Any = host.adapter.list("s")
        return list(await found)


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_running_store_is_backed_up_and_the_copy_opens(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        for number in range(3):
            assert run("set", "s", f"k{number}", str(number), "--url", host.ws, cwd=tmp_path).returncode == 0
        done = run("backup", "copy", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"target": str(tmp_path / "copy"), "keys": 3}
        assert str(tmp_path / ".iii" / "state") in done.stderr
        again = run("backup", "copy", cwd=tmp_path)
        assert (again.returncode, "is not empty" in again.stderr) == (1, True)
    assert asyncio.run(content(tmp_path / "copy")) == [(f"k{n}", b"%d" % n) for n in range(3)]
    (tmp_path / "elsewhere").mkdir()
    nowhere = run("backup", "other", cwd=tmp_path / "elsewhere")
    assert (nowhere.returncode, "There is no store in .iii/state" in nowhere.stderr) == (2, True)
    assert not (tmp_path / "elsewhere" / "other").exists()


@pytest.mark.timeout(600)
async def test_a_copy_goes_on_when_its_target_was_killed(tmp_path: Path) -> None:
    count = 20_000
    await fill(tmp_path / "source", count)
    with running_host(tmp_path) as host:
        words = [*COMMAND, "copy", "--data-dir", str(tmp_path / "source"), "--to", host.ws, "--json"]
        process = await asyncio.create_subprocess_exec(
            *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
        )
        # In the middle of it.
        async with raw_client(host.ws) as client, asyncio.timeout(60):
            while not (await client.result("state::list_keys", {"scope": "s"}))["keys"]:
                await asyncio.sleep(0.005)
        await asyncio.to_thread(host.restart)
        told, said = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode == 0, said
        assert b"the connection is lost" in said
        assert json.loads(told)["refused"] == 0
        host.sigterm()
    assert sorted(await content(tmp_path / ".iii" / "state")) == sorted(await content(tmp_path / "source"))
