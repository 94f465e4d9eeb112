"""A loss of power at any moment takes back no acknowledged write and leaves a store that opens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from iii_state_file import FileAdapter, FileConfig, writer
from support.faulty_disk import FaultyDisk, faulty_disk

KEYS = 4


def number(value: bytes | None) -> int:
    """The count that a value holds; 0 when there is none."""
    return 0 if value is None else int(value.split(b":")[0])


def next_value(old: bytes | None) -> bytes:
    """One more than the old count, in values of very different sizes."""
    count = number(old) + 1
    return b"%d:" % count + b"x" * (count * 397 % 6000)


async def count_up(adapter: FileAdapter, disk: FaultyDisk, key: str, rounds: int) -> None:
    """Count a key up, with a mark before each write is sent and after it is acknowledged."""
    for _ in range(rounds):
        answer = adapter.update("scope", key, next_value)
        change = await answer  # type: ignore[misc]
        disk.mark((key, number(change.new), change.revision))


async def record(disk: FaultyDisk, rounds: int) -> None:
    """A new store, concurrent writers, several checkpoints, a clean end."""
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=str(disk.directory), cache_bytes=2000))
    await asyncio.gather(*(count_up(adapter, disk, f"key-{i}", rounds + i) for i in range(KEYS)))
    await adapter.close()


async def check_image(directory: Path, marks: list[tuple[str, int, int]]) -> None:
    """The store opens, holds at least what was acknowledged and goes on with higher revisions."""
    acknowledged = {key: count for key, count, _ in marks}
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=str(directory)))
    try:
        for key, count in acknowledged.items():
            value = await answer(adapter.get("scope", key))
            assert count <= number(value), (key, count)
            assert value == next_value(b"%d:" % (number(value) - 1))
        change = await answer(adapter.delete("scope", "absent"))
        assert change.revision > max((revision for *_, revision in marks), default=0)
    finally:
        await adapter.close()


async def answer(given):  # type: ignore[no-untyped-def]
    """What a method gave, awaited where it is awaitable."""
    return await given if hasattr(given, "__await__") else given


@pytest.fixture
def small_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint after every few commits."""
    monkeypatch.setattr(writer, "_CHECKPOINT_BYTES", 30_000)


@pytest.mark.usefixtures("small_checkpoints")
@pytest.mark.parametrize("kept", [0, 0.5, 1], ids=["nothing unflushed", "half of it, torn", "all of it"])
async def test_every_acknowledged_write_is_there_whatever_the_disk_kept(tmp_path: Path, kept: float) -> None:
    with faulty_disk(tmp_path / "data") as disk:
        await record(disk, rounds=6)
    assert disk.counts["sync"] > 10
    assert any(event.kind == "write" and event.file == "state.db" for event in disk.events)
    ends = range(0, len(disk.events) + 1, 1 if kept == 0 else 4)
    for end in ends:
        disk.image(tmp_path / f"image-{end}", end, kept=kept, seed=end)
        await check_image(tmp_path / f"image-{end}", disk.marks(end))
