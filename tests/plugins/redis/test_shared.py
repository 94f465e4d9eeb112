"""Many hosts over one server: no update is lost, and each host sees every change, in order, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from iii_state_redis import RedisAdapter
from support.redis import RedisServer, until

from iii_skill.errors import AdapterError
from iii_skill.values import KEEP, PRIVATE_SCOPES, Change

from .conftest import OpenAdapter


def bump(old: bytes | None) -> bytes:
    """Add one."""
    return b"%d" % (int(old or 0) + 1)


async def take(changes: AsyncIterator[Change], count: int) -> list[Change]:
    """The next `count` changes."""
    async with asyncio.timeout(60):
        return [await anext(changes) for _ in range(count)]


def of_key(changes: Sequence[Change], key: str) -> list[Change]:
    """The changes of one key."""
    return [change for change in changes if change.key == key]


async def test_updates_of_two_hosts_are_all_counted(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        calls = [host.update("s", "n", bump) for _ in range(500) for host in (one, two)]
        changes = await asyncio.gather(*calls)
        assert await one.get("s", "n") == b"1000"
    assert sorted(int(change.new or 0) for change in changes) == list(range(1, 1001))
    by_revision = sorted(changes, key=lambda change: change.revision)
    assert [int(change.new or 0) for change in by_revision] == list(range(1, 1001))


async def test_a_compare_and_set_never_trusts_what_it_remembers(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        await one.set("s", "k", b"1")
        await two.set("s", "k", b"2")
        kept = await one.update("s", "k", lambda old: b"3" if old == b"1" else KEEP)
        assert (kept.old, kept.new, kept.revision) == (b"2", b"2", 0)
        await two.set("s", "k", b"5")

        def refuse_two(old: bytes | None) -> bytes:
            if old == b"2":
                raise ValueError("it saw old bytes")
            return b"6"

        assert (await one.update("s", "k", refuse_two)).old == b"5"


async def test_a_read_is_never_answered_from_memory(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        for number in range(50):
            await one.set("s", "k", b"%d" % number)
            assert await two.get("s", "k") == b"%d" % number
            await two.set("s", "k", b"-%d" % number)
            assert await one.get("s", "k") == b"-%d" % number


async def test_calls_for_a_key_happen_in_the_order_in_which_they_were_made(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        await one.set("s", "k", b"0")
        await two.set("s", "k", b"100")
        calls = [
            one.update("s", "k", bump),
            one.get("s", "k"),
            one.set("s", "k", b"7"),
            one.get("s", "k"),
            one.update("s", "k", bump),
            one.delete("s", "k"),
            one.get("s", "k"),
            one.update("s", "k", bump),
        ]
        first, seen, written, read, second, deleted, gone, third = await asyncio.gather(*calls)
        assert (first.new, seen, written.old, read) == (b"101", b"101", b"101", b"7")
        assert (second.new, deleted.old, gone, third.new) == (b"8", b"8", None, b"1")


async def test_every_host_sees_every_change_once_and_in_order(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        readers = [one.changes(), two.changes()]
        # A host's own calls come after its `changes()`; another one's may overtake it until one was answered.
        await asyncio.gather(*(host.get("s", "k") for host in (one, two)))
        calls = [host.update("s", f"k{n % 3}", bump) for n in range(300) for host in (one, two)]
        made = await asyncio.gather(*calls)
        for reader in readers:
            seen = await take(reader, 600)
            assert seen == sorted(made, key=lambda change: change.revision)
            for key in ("k0", "k1", "k2"):
                assert [change.new for change in of_key(seen, key)] == [b"%d" % n for n in range(1, 201)]


async def test_a_change_tells_what_its_caller_was_told(adapter: RedisAdapter) -> None:
    changes = adapter.changes()
    made = [
        await adapter.delete("s", "missing"),
        await adapter.set("ä", "\0", b"null"),
        await adapter.update("ä", "\0", lambda _old: b"[]"),
        await adapter.set("ä", "\0", b'{"a":1.0}'),
        await adapter.delete("ä", "\0"),
    ]
    await adapter.update("ä", "\0", lambda _old: KEEP)
    made.append(await adapter.set("end", "k", b"1"))
    assert await take(changes, len(made)) == made


async def test_changes_begin_at_the_call(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        await one.set("s", "k", b"1")
        # Asked for and written in one turn of the loop.
        changes, writing = two.changes(), two.set("s", "k", b"2")
        made = [await writing, await one.set("s", "k", b"3")]
        assert await take(changes, 2) == made
        await changes.aclose()
        await two.set("s", "k", b"4")
        again, writing = two.changes(), two.set("s", "k", b"5")
        assert await take(again, 1) == [await writing]


async def test_broken_connections_lose_and_repeat_nothing(
    server: RedisServer, open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iii_state_redis.connection.STEADY", 0.0)
    async with open_adapter() as reader, open_adapter() as writer:
        seen: list[Change] = []
        changes = reader.changes()

        async def follow() -> None:
            async for change in changes:
                seen.append(change)

        following = asyncio.create_task(follow())
        made: list[Change] = []
        for number in range(200):
            try:
                made.append(await writer.set("s", "k", b"%d" % number))
            except AdapterError:
                await until(lambda: answers(writer))
            if number % 20 == 10:
                server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        last = await writer.set("s", "end", b"1")
        await until(lambda: bool(seen) and seen[-1].revision == last.revision)
        revisions = [change.revision for change in seen]
        assert revisions == sorted(set(revisions))
        assert {change.revision for change in made} <= set(revisions)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def answers(adapter: RedisAdapter) -> bool:
    """True when a read is answered."""
    try:
        await adapter.get("s", "k")
    except AdapterError:
        return False
    return True


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
async def test_a_large_value_does_not_push_out_what_others_have_not_read(
    size: int, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as writer, open_adapter() as reader:
        changes = reader.changes()
        await reader.get("s", "k")
        calls = [writer.set("s", f"k{number}", b"%d" % number) for number in range(2000)]
        calls.append(writer.set("s", "large", b'"%s"' % (b"x" * size)))
        made = await asyncio.gather(*calls)
        assert await take(changes, len(made)) == made


async def test_a_stream_that_was_trimmed_too_far_is_told(
    server: RedisServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_adapter() as writer:
        await writer.set("s", "k", b"0")
        async with open_adapter() as reader:
            changes = reader.changes()
            await reader.get("s", "k")
            for number in range(5):
                await writer.set("s", "k", b"%d" % number)
            server.cli("XTRIM", "iii:changes", "MAXLEN", 2)
            with caplog.at_level(logging.WARNING):
                assert [change.new for change in await take(changes, 2)] == [b"3", b"4"]
    assert "trimmed" in caplog.text


async def test_changes_of_private_scopes_are_told_apart(server: RedisServer, adapter: RedisAdapter) -> None:
    one, two = f"{PRIVATE_SCOPES}one/", f"{PRIVATE_SCOPES}two/"
    changes, below = adapter.changes(), adapter.changes_below(one)
    made = [await adapter.set(scope, "k", b"1") for scope in ("s", f"{two}s", f"{one}s", f"{one}t", "t")]
    assert await take(below, 2) == made[2:4]
    assert await take(changes, 2) == [made[0], made[4]]
    assert sorted(await adapter.scopes()) == sorted(change.scope for change in made)
    await adapter.erase()
    assert server.cli("KEYS", "*iii*") == []


async def test_foreign_entries_of_the_stream_are_left_out(server: RedisServer, adapter: RedisAdapter) -> None:
    changes = adapter.changes()
    server.cli("XADD", "iii:changes", "*", "what", "ever")
    made = await adapter.set("s", "k", b"1")
    assert await take(changes, 1) == [made]


async def test_old_garbage_is_null_in_a_change(server: RedisServer, adapter: RedisAdapter) -> None:
    server.cli("HSET", "state:s", "k", "garbage")
    changes = adapter.changes()
    made = await adapter.set("s", "k", b"1")
    assert made.old == b"null"
    assert await take(changes, 1) == [made]


async def test_changes_end_when_the_adapter_is_closed(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        changes = adapter.changes()
        made = await adapter.set("s", "k", b"1")
        assert await take(changes, 1) == [made]
        waiting = asyncio.ensure_future(take(changes, 1))
        await asyncio.sleep(0)
    with pytest.raises((StopAsyncIteration, RuntimeError)):
        await waiting
    assert [change async for change in changes] == []


async def test_changes_come_in_when_the_server_was_absent_at_the_start(
    server: RedisServer, open_adapter: OpenAdapter
) -> None:
    server.kill()
    async with open_adapter() as adapter:
        waiting = asyncio.ensure_future(anext(adapter.changes()))
        server.start()
        await until(lambda: answers(adapter))
        number = 0

        async def seen() -> bool:
            nonlocal number
            number += 1
            await adapter.set("s", "k", b"%d" % number)
            return waiting.done()

        await until(seen)
        assert (await waiting).key == "k"
