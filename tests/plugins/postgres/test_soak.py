"""Many operations of several hosts on one database; with III_SKILL_TEST_ALL a million and ten million."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter

import pytest
from iii_state_postgres import PostgresAdapter
from support.postgres import PostgresServer

from iii_skill.testing.linearizable import ANY, Operation, fault

from .conftest import OpenAdapter

ALL = bool(os.environ.get("III_SKILL_TEST_ALL"))
OPERATIONS = int(os.environ.get("III_SKILL_SOAK_OPERATIONS", 1_000_000 if ALL else 4_000))
CHANGES = int(os.environ.get("III_SKILL_SOAK_CHANGES", 10_000_000 if ALL else 20_000))

pytestmark = pytest.mark.timeout(7200 if ALL else 120)

ROUND = 2_000
"""Operations whose history is looked at together."""
KEYS = 20
AT_ONCE = 64


class Recording:
    """Calls of four hosts on the keys of one round, and what was answered when."""

    def __init__(self, hosts: list[PostgresAdapter], round_: int) -> None:
        self.histories: dict[tuple[str, str], list[Operation]] = {}
        self._hosts = hosts
        self._chance = random.Random(round_)
        self._left = ROUND
        self._round = round_

    async def call(self) -> None:
        """One call after the other until the round is over."""
        while self._left > 0:
            self._left -= 1
            host = self._chance.choice(self._hosts)
            # Scopes in several buckets, keys that all hosts want.
            name = f"r{self._round}-{self._chance.randrange(4)}", f"k{self._chance.randrange(KEYS // 4)}"
            value = b"%d" % self._left
            what = self._chance.random()
            called = time.perf_counter_ns()
            if what < 0.5:
                old = new = await host.get(*name)
            elif what < 0.7:
                change = await host.set(*name, value)
                old, new = change.old, change.new
            elif what < 0.95:
                change = await host.update(*name, lambda _old, value=value: value)
                old, new = change.old, change.new
            else:
                change = await host.delete(*name)
                old, new = change.old, change.new
            operation = Operation(called, time.perf_counter_ns(), old, new)
            self.histories.setdefault(name, []).append(operation)

    def faults(self) -> list[str]:
        """What no order of the calls explains."""
        return [found for history in self.histories.values() if (found := fault(history)) is not None]


async def test_four_hosts_are_linearizable(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as a, open_adapter() as b, open_adapter() as c, open_adapter() as d:
        began = time.monotonic()
        for round_ in range(OPERATIONS // ROUND):
            recording = Recording([a, b, c, d], round_)
            await asyncio.gather(*(recording.call() for _ in range(AT_ONCE)))
            assert recording.faults() == []
            if round_ % 4 == 3:
                # What was made is not needed any more.
                for scope in {scope for scope, _ in recording.histories}:
                    await asyncio.gather(*(a.delete(scope, key) for key in await a.keys(scope)))
        print(f"\n{OPERATIONS} operations of 4 hosts in {time.monotonic() - began:.0f} s")


def test_the_check_finds_a_read_that_is_over() -> None:
    late = [Operation(1, 2, None, b"1"), Operation(3, 4, b"1", b"2"), Operation(5, 6, b"1", b"1")]
    assert fault(late) is not None
    assert fault([Operation(1, 2, ANY, b"1")]) is None


async def test_the_feed_is_complete_and_in_order(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    """Two hosts count 300 keys each up, a third one follows; cut off again and again."""
    async with open_adapter() as one, open_adapter() as two, open_adapter() as watching:
        changes = watching.changes()
        made = await watching.set("begin", "k", b"0")
        assert await anext(changes) == made
        reached: Counter[tuple[str, str]] = Counter()
        revisions: Counter[tuple[str, str]] = Counter()
        seen = written = 0
        began = time.monotonic()

        async def follow() -> None:
            nonlocal seen
            async for change in changes:
                name = change.scope, change.key
                assert change.old == (b"%d" % reached[name] if reached[name] else None)
                reached[name] += 1
                assert change.new == b"%d" % reached[name]
                assert change.revision > revisions[name]
                revisions[name] = change.revision
                seen += 1
                if seen == CHANGES:
                    return

        async def write(host: PostgresAdapter, mine: str) -> None:
            nonlocal written
            chance = random.Random(mine)
            while written < CHANGES:
                count = min(2_000, CHANGES - written)
                written += count
                # Scopes of its own: not the race for a key is looked at here, but that for the log.
                names = [(f"{mine}{chance.randrange(10)}", f"k{chance.randrange(30)}") for _ in range(count)]
                await asyncio.gather(*(host.update(*name, _bump) for name in names))
                # The follower is at most as far behind as the log reaches.
                while written - seen > 30_000:
                    await asyncio.sleep(0.01)

        async def cut() -> None:
            while True:
                await asyncio.sleep(1.0)
                server.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'iii-skill' "
                    "AND (query LIKE '%coalesce(c.before%' OR query LIKE 'LISTEN%')"
                )

        following = asyncio.ensure_future(follow())
        cutting = asyncio.ensure_future(cut())
        writing = asyncio.gather(write(one, "a"), write(two, "b"))
        try:
            await asyncio.wait([following, writing], return_when=asyncio.FIRST_EXCEPTION)
            if following.done():
                # Who writes would wait for it for ever.
                following.result()
            await writing
            async with asyncio.timeout(60):
                await following
        finally:
            for task in (following, cutting):
                task.cancel()
        assert seen == CHANGES == sum(reached.values())
        rows = int(server.sql(f"SELECT count(*) FROM {schema}.change")[0][0])
        assert rows <= 16 * 20_000 * 9 // 8 + 30_000
        print(f"\n{CHANGES} changes in {time.monotonic() - began:.0f} s, {rows} kept")


def _bump(old: bytes | None) -> bytes:
    return b"%d" % (int(old or b"0") + 1)
