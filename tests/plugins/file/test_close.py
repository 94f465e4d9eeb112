"""Closing in the middle of work: what was accepted is stored, what comes later is refused, nobody hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.file_store import answer, open_store, opened

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError


async def test_writers_that_go_on_while_it_closes_are_all_answered(tmp_path: Path) -> None:
    adapter = await opened(tmp_path / "data")
    acknowledged = [0] * 8

    async def write(number: int) -> None:
        count = 0
        while True:
            # A key that is known, and one that has to be read first.
            await answer(adapter.set("s", f"k{number}", b"%d" % (count + 1)))
            count = acknowledged[number] = count + 1
            await answer(adapter.set("s", f"new {number} {count}", b"1"))

    writers = [asyncio.create_task(write(number)) for number in range(8)]
    while min(acknowledged) < 20:
        await asyncio.sleep(0.001)
    await adapter.close()
    async with asyncio.timeout(60):
        for outcome in await asyncio.gather(*writers, return_exceptions=True):
            assert isinstance(outcome, AdapterError)
            assert "closed" in outcome.message
    async with open_store(tmp_path / "data") as again:
        for number, count in enumerate(acknowledged):
            assert await answer(again.get("s", f"k{number}")) == b"%d" % count


async def test_a_close_that_is_cancelled_goes_on(tmp_path: Path) -> None:
    adapter = await opened(tmp_path / "data")
    written = asyncio.ensure_future(answer(adapter.set("s", "k", b"1")))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(adapter.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await adapter.close()
    assert (await written).new == b"1"
    async with open_store(tmp_path / "data") as again:
        assert await answer(again.get("s", "k")) == b"1"


async def test_a_call_made_by_a_listener_does_not_overtake_those_that_wait_for_the_same_row(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path / "data") as adapter:
        read = adapter.get("s", "k")
        second = adapter.update("s", "k", lambda old: (old or b"") + b"1")
        assert isinstance(read, Deferred)
        late: list[Any] = []

        def listener(_subject: object, _value: object) -> None:
            late.append(adapter.update("s", "k", lambda old: (old or b"") + b"2"))

        read.listen(None, listener, listener)
        assert (await answer(second)).new == b"1"
        assert (await answer(late[0])).new == b"12"


HANGING = """
import asyncio, sys, threading
from iii_state_file import FileAdapter, FileConfig
from iii_state_file.writer import BatchWriter
async def main():
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=sys.argv[1]))
    await adapter.set("s", "k", b"1")
    BatchWriter._commit = lambda writer, batches: threading.Event().wait()
    adapter.set("s", "k", b"2")
    try:
        await asyncio.wait_for(adapter.close(), 0.5)
    except TimeoutError:
        print("given up", flush=True)
asyncio.run(main())
"""


async def test_a_disk_that_hangs_does_not_hold_up_the_end_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: ASYNC221
    assert (done.returncode, done.stdout) == (0, "given up\n"), done.stderr
    async with open_store(tmp_path / "data") as again:
        assert await answer(again.get("s", "k")) == b"1"
