"""Closing in the middle of work: what was accepted is stored, what comes later is refused, nobody hangs."""

from __future__ import annotations

import asyncio
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
    async with asyncio.timeout(10):
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
