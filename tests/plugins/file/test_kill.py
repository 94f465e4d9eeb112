"""SIGKILL in the middle of concurrent writes, again and again: every acknowledged write is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from support.file_store import answer, open_store

ROUNDS = 8
KEYS = 16

WRITER = """
import asyncio, os, sys
from iii_state_file import FileAdapter, FileConfig, writer
writer._CHECKPOINT_BYTES = 300_000

def count_up(old):
    count = int(old.split(b":")[0]) + 1 if old else 1
    return b"%d:" % count + b"x" * (count * 97 % 3000)

async def client(adapter, number):
    step = 0
    while True:
        step += 1
        key = f"key-{(number * 7 + step) % 16}"
        change = await adapter.update("scope", key, count_up)
        os.write(1, b"%s %d %d\\n" % (key.encode(), int(change.new.split(b":")[0]), change.revision))
        if step % 10 == 0:
            # Made, removed and made again: never both, never half.
            await adapter.set("pairs", f"{number}", b"%d" % step)
            await adapter.delete("pairs", f"{number}")

async def main():
    adapter = FileAdapter()
    await adapter.open(FileConfig(data_dir=sys.argv[1], cache_bytes=20_000))
    os.write(1, b"open\\n")
    await asyncio.gather(*(client(adapter, number) for number in range(32)))

asyncio.run(main())
"""


def killed_writer(data: Path, answers: int) -> list[tuple[str, int, int]]:
    """Run the writer, kill it after some answers; what it acknowledged, in order."""
    acknowledged = []
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        for line in child.stdout:
            if not line.endswith("\n"):
                break
            if len(acknowledged) == answers:
                child.kill()
            key, count, revision = line.split()
            acknowledged.append((key, int(count), int(revision)))
    assert len(acknowledged) >= answers
    return acknowledged


def test_every_acknowledged_write_outlives_many_kills(tmp_path: Path) -> None:
    data = tmp_path / "data"
    counts: dict[str, int] = {}
    highest = 0
    for round_number in range(ROUNDS):
        acknowledged = killed_writer(data, 1 + round_number * 150)
        for key, count, revision in acknowledged:
            assert count == counts.get(key, count) + (key in counts), f"{key} lost or repeated a count"
            counts[key] = count
            assert revision > highest, f"{key} took an old revision"
        highest = max(highest, *(revision for *_, revision in acknowledged))
        counts, highest = asyncio.run(check(data, counts, highest))


async def check(data: Path, counts: dict[str, int], highest: int) -> tuple[dict[str, int], int]:
    """Nothing acknowledged is missing; what the store holds now is where the next round goes on."""
    async with open_store(data) as adapter:
        stored = {key: int(value.split(b":")[0]) for key, value in await answer(adapter.list("scope"))}
        for key, count in counts.items():
            # A client has one call in batch: at most 32 were stored without an answer.
            assert count <= stored[key] <= count + 32
        change = await answer(adapter.delete("scope", "absent"))
        assert change.revision > highest
        return stored, change.revision
