"""An I/O error stops the store: every caller learns it, no flush is repeated, no acknowledged write lost."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from iii_state_file import FileAdapter, FileConfig, writer
from support.faulty_disk import FULL, SYNC_ERROR, WRITE_ERROR, faulty_disk

from iii_skill.errors import StorageFailed, StoreRefused

FAULTS = [("write", WRITE_ERROR), ("write", FULL), ("sync", SYNC_ERROR)]
FAULT_NAMES = ["write fails", "disk full", "flush fails"]


async def answer(given: Any) -> Any:
    """What a method gave, awaited where it is awaitable."""
    return await given if inspect.isawaitable(given) else given


async def opened(directory: Path) -> FileAdapter:
    """An open adapter."""
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=str(directory)))
    return adapter


async def write_until_failure(adapter: FileAdapter, key: str, acknowledged: dict[str, bytes]) -> None:
    """Write higher and higher numbers to a key until the store fails."""
    for count in range(60):
        value = b"%d" % count
        await answer(adapter.set("scope", key, value))
        acknowledged[key] = value


@pytest.fixture(autouse=True)
def small_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint after every few commits."""
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 30_000)


@pytest.mark.parametrize("later", [0, 1, 2, 5, 9, 14, 20, 27, 35])
@pytest.mark.parametrize(("kind", "code"), FAULTS, ids=FAULT_NAMES)
async def test_an_error_stops_the_store(tmp_path: Path, kind: str, code: int, later: int) -> None:
    acknowledged: dict[str, bytes] = {}
    failures: list[StorageFailed] = []
    with faulty_disk(tmp_path / "data") as disk:
        adapter = await opened(disk.directory)
        adapter.on_failure = failures.append
        disk.faults[kind, disk.counts[kind] + later] = code
        writers = [write_until_failure(adapter, f"key-{i}", acknowledged) for i in range(5)]
        results = await asyncio.gather(*writers, return_exceptions=True)
        assert [type(result) for result in results] == [StorageFailed] * 5
        assert len(failures) == 1
        assert str(disk.directory) in failures[0].message
        await check_that_every_call_fails(adapter)
        before = dict(disk.counts)
        await adapter.close()
        assert disk.counts == before, "the files were touched after the failure"
    disk.image(tmp_path / "image", len(disk.events), kept=0)
    for directory in (disk.directory, tmp_path / "image"):
        await check_acknowledged(directory, acknowledged)


async def check_that_every_call_fails(adapter: FileAdapter) -> None:
    """No call is answered any more, not even from memory."""
    for call in (
        lambda: adapter.get("scope", "key-0"),
        lambda: adapter.set("scope", "key-0", b"1"),
        lambda: adapter.delete("scope", "other"),
        lambda: adapter.list("scope"),
        lambda: adapter.keys("scope"),
        lambda: adapter.scopes(),
    ):
        with pytest.raises(StorageFailed):
            await answer(call())


async def check_acknowledged(directory: Path, acknowledged: dict[str, bytes]) -> None:
    """A later start finds every acknowledged write."""
    adapter = await opened(directory)
    try:
        for key, value in acknowledged.items():
            assert int(await answer(adapter.get("scope", key))) >= int(value)
    finally:
        await adapter.close()


@pytest.mark.parametrize(("kind", "code"), FAULTS, ids=FAULT_NAMES)
async def test_an_error_while_opening_is_refused_and_leaves_no_lock(
    tmp_path: Path, kind: str, code: int
) -> None:
    with faulty_disk(tmp_path / "probe") as disk:
        await (await opened(disk.directory)).close()
    for index in range(disk.counts[kind]):
        directory = tmp_path / f"data-{index}"
        with faulty_disk(directory) as disk:
            disk.faults[kind, index] = code
            adapter = FileAdapter()
            # An error in what happens only at close is told by `on_failure` instead.
            with suppress(StoreRefused):
                await adapter.open(FileConfig(data_dir=str(directory)))
            await adapter.close()
        assert any(event.kind == "fault" for event in disk.events)
        await (await opened(directory)).close()


async def test_an_error_while_closing_is_told(tmp_path: Path) -> None:
    failures: list[StorageFailed] = []
    with faulty_disk(tmp_path / "data") as disk:
        adapter = await opened(disk.directory)
        adapter.on_failure = failures.append
        await answer(adapter.set("scope", "key", b"1"))
        disk.faults["sync", disk.counts["sync"]] = SYNC_ERROR
        await adapter.close()
        await asyncio.sleep(0)
    assert len(failures) == 1
    await check_acknowledged(disk.directory, {"key": b"1"})


async def test_damage_found_while_reading_stops_the_store(tmp_path: Path) -> None:
    adapter = await opened(tmp_path / "data")
    for index in range(300):
        await answer(adapter.set("scope", f"key-{index}", b"x" * 500))
    await adapter.close()
    adapter = await opened(tmp_path / "data")
    failures: list[StorageFailed] = []
    adapter.on_failure = failures.append
    content = bytearray((tmp_path / "data" / "state.db").read_bytes())
    content[2048 * 2 :] = b"\xff" * (len(content) - 2048 * 2)
    (tmp_path / "data" / "state.db").write_bytes(content)
    with pytest.raises(StorageFailed):
        await answer(adapter.get("scope", "key-7"))
    assert len(failures) == 1
    with pytest.raises(StorageFailed):
        await answer(adapter.set("scope", "key", b"1"))
    await adapter.close()
