"""Keys that end in a Redis that two hosts share: each end once, also when one host is killed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from support import redis
from support.client import RawClient, raw_client
from support.host import running_host

EXPIRE = "iii-skill::state::expire"
CHANGES = "iii-skill::state::changes"


async def follow(client: RawClient, told: list[str]) -> None:
    """The keys of the deletes that a host tells of, from now on."""
    after = (await client.result(CHANGES, {}))["next"]
    while True:
        answer = await client.result(CHANGES, {"after": after, "wait_ms": 2000})
        after = answer["next"]
        told += [row["key"] for row in answer["changes"] if row["event_type"] == "state:deleted"]


async def test_a_killed_host_leaves_its_ends_to_the_other(tmp_path: Path) -> None:
    """240 keys, given ends by two hosts; one is killed in the middle: the other tells each end, once."""
    settings = redis.settings()
    place = [f"--adapter-config={name}={value}" for name, value in settings.items()]
    names = [f"k{number}" for number in range(240)]
    told: list[str] = []
    other: list[str] = []
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    options = ["--adapter", "redis", *place]
    with (
        running_host(directories[0], *options) as stays,
        running_host(directories[1], *options) as killed,
    ):
        async with raw_client(stays.ws) as one, raw_client(killed.ws) as two:
            tasks: list[asyncio.Task[Any]] = [
                asyncio.create_task(follow(one, told)),
                asyncio.create_task(follow(two, other)),
            ]
            clients = [one, two]
            for number, name in enumerate(names):
                await clients[number % 2].result("state::set", {"scope": "s", "key": name, "value": 1})
            # The first end of a store takes a moment, and the hosts begin to sweep 5 s after their start.
            start = int(time.time() * 1000) + 6_000
            await asyncio.gather(
                *(
                    clients[number % 2].result(
                        EXPIRE, {"scope": "s", "key": name, "at_ms": start + 5 * number}
                    )
                    for number, name in enumerate(names)
                )
            )
            async with asyncio.timeout(40):
                while len(told) < 60:
                    await asyncio.sleep(0.01)
            killed.sigkill()
            async with asyncio.timeout(40):
                while len(told) < len(names):
                    await asyncio.sleep(0.05)
            assert await one.result("state::list_keys", {"scope": "s"}) == {"keys": []}
            await asyncio.sleep(1.5)  # Whatever would be told again is told by now.
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    assert sorted(told) == sorted(names)
    assert len(other) == len(set(other))
    assert set(other) <= set(names)
