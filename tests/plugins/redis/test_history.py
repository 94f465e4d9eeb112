"""Versions in Redis: noted by whoever writes with the setting; what others did is admitted, not guessed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from iii_state_redis import RedisAdapter, RedisConfig, version_scripts
from support.redis import settings, shared

from iii_skill.adapter import Expiry, HistorySettings, PastKey, PastPage, Write
from iii_skill.clock import Clock
from iii_skill.errors import AdapterError, StoreRefused

KEPT = HistorySettings(keep=10, days=2)
DAY = 86_400.0


@contextlib.asynccontextmanager
async def opened(
    where: dict[str, Any], history: HistorySettings | None = KEPT, clock: Clock | None = None
) -> AsyncIterator[RedisAdapter]:
    adapter = RedisAdapter()
    if clock is not None:
        adapter.clock = clock
    try:
        await adapter.open(msgspec.convert({**where, "history": history}, RedisConfig, from_attributes=True))
        yield adapter
    finally:
        await adapter.close()


async def values(adapter: RedisAdapter, key: str) -> list[bytes | None]:
    return [version.value for version in await adapter.history("s", key, None, 100)]


async def page_now(adapter: RedisAdapter, *, later: float = 0.0) -> PastPage:
    moment = await adapter.moment_at(int((adapter.clock.now() + later) * 1000))
    return await adapter.past(moment, None, 1000)


def hash_of(where: dict[str, Any]) -> str:
    return f"{where['key_prefix']}state:s"


async def test_a_store_that_had_no_history_is_told_whole_from_then_on() -> None:
    where = settings()
    async with opened(where, None) as before:
        await asyncio.gather(*(before.set("s", f"k{number}", b"%d" % number) for number in range(50)))
    async with opened(where) as adapter:
        moment = await adapter.moment_at(int(adapter.clock.now() * 1000))
        assert (await adapter.past(moment, None, 1000)).whole_from > moment
        await adapter.maintain()
        page = await page_now(adapter)
        assert page.whole_from <= moment
        assert {one.key: one.value for one in page.keys} == {f"k{n}": b"%d" % n for n in range(50)}
        await adapter.set("s", "k1", b'"new"')
        then = await adapter.past(moment, None, 1000)
        # What it held before its first version was not kept.
        (changed,) = (one for one in then.keys if one.key == "k1")
        assert changed.value is None
        assert changed.known_from_ms is not None
        assert await values(adapter, "k1") == [b'"new"']
        await adapter.erase()


async def test_a_write_of_another_program_is_no_version_and_not_hidden() -> None:
    where = settings()
    async with opened(where) as adapter:
        await adapter.set("s", "k", b"1")
        moment = await adapter.moment_at(int(adapter.clock.now() * 1000))
        shared().cli("HSET", hash_of(where), "k", "2")
        (told,) = (await page_now(adapter)).keys
        assert (told.value, told.known_from_ms is not None) == (None, True)
        await adapter.set("s", "k", b"3")
        (told,) = (await adapter.past(moment, None, 10)).keys
        assert (told.value, told.known_from_ms is not None) == (None, True)
        (told,) = (await page_now(adapter)).keys
        assert told == PastKey("s", "k", b"3")
        shared().cli("HDEL", hash_of(where), "k")
        assert [one.known_from_ms is None for one in (await page_now(adapter)).keys] == [False]
        await adapter.set("s", "k", b"4")
        assert await values(adapter, "k") == [b"4", b"3", b"1"]
        await adapter.erase()


async def test_hosts_without_the_setting_raise_the_floor() -> None:
    where = settings()
    async with opened(where) as adapter:
        await adapter.set("s", "k", b"1")
        first = await adapter.moment_at(int(adapter.clock.now() * 1000))
        assert (await adapter.past(first, None, 10)).whole_from <= first
    async with opened(where) as again:
        assert (await again.past(first, None, 10)).whole_from <= first
    async with opened(where, None) as without:
        await without.set("s", "other", b"2")
    async with opened(where) as adapter:
        await adapter.maintain()
        page = await adapter.past(first, None, 10)
        assert page.whole_from > first
        page = await page_now(adapter)
        assert {one.key: one.value for one in page.keys} == {"k": b"1", "other": b"2"}
        await adapter.erase()


async def test_several_hosts_note_in_one_order() -> None:
    where, clock = settings(), Clock()
    async with opened(where, clock=clock) as one, opened(where, clock=clock) as two:

        def bump(old: bytes | None) -> bytes:
            return b"%d" % (int(old or b"0") + 1)

        made = await asyncio.gather(*(host.update("s", "k", bump) for _ in range(20) for host in (one, two)))
        made.sort(key=lambda change: change.revision)
        found = await two.history("s", "k", None, 100)
        assert [(v.revision, v.value) for v in found] == [(c.revision, c.new) for c in made[:-11:-1]]
        await one.erase()


async def test_what_is_not_shown_is_dropped() -> None:
    where, clock = settings(), Clock()
    async with opened(where, clock=clock) as adapter:
        for number in range(30):
            await adapter.set("s", "k", b"%d" % number)
        stream = f"{where['key_prefix']}iii:version:1:sk"
        assert shared().cli("XLEN", stream) == 10
        await adapter.set("s", "gone", b"1")
        await adapter.delete("s", "gone")
        clock.advance(3 * DAY)
        await adapter.set("s", "k", b"last")
        await adapter.maintain()
        # The one that was there two days ago, and what replaced it.
        assert shared().cli("XLEN", stream) == 2
        assert await values(adapter, "k") == [b"last", b"29"]
        assert shared().cli("EXISTS", f"{where['key_prefix']}iii:version:4:gone") == 0
        assert shared().cli("ZRANGE", f"{where['key_prefix']}iii:history", 0, -1) == [b"1:sk"]
        page = await page_now(adapter)
        assert page.whole_from > 0
        await adapter.erase()
    assert shared().cli("KEYS", f"{where['key_prefix']}*") == []


async def test_a_version_that_cannot_be_noted_takes_its_write_back() -> None:
    where = settings()
    async with opened(where) as adapter:
        await adapter.set("s", "k", b"1")
        # A key of another type where the versions of a key are to be.
        shared().cli("SET", f"{where['key_prefix']}iii:version:1:snew", "x")
        for key, left in (("new", None), ("k", b"1")):
            if key == "k":
                shared().cli("DEL", f"{where['key_prefix']}iii:version:1:sk")
                shared().cli("SET", f"{where['key_prefix']}iii:version:1:sk", "x")
            before = shared().cli("XLEN", f"{where['key_prefix']}iii:changes")
            for call in (adapter.set("s", key, b"2"), adapter.update("s", key, lambda _old: b"2")):
                with pytest.raises(AdapterError, match="another type"):
                    await call
            assert await adapter.get("s", key) == left
            assert shared().cli("XLEN", f"{where['key_prefix']}iii:changes") == before
        await adapter.erase()


async def test_a_usual_write_is_taken_back_too_where_its_version_cannot_be_noted() -> None:
    where = settings()
    async with opened(where) as adapter:
        await adapter.set("s", "k", b"1")
        changes = f"{where['key_prefix']}iii:changes"
        # An id above that of the next change.
        shared().cli("XADD", f"{where['key_prefix']}iii:version:1:sk", "99999999999999-0", "v", "1")
        for call in (adapter.set("s", "k", b"2"), adapter.update("s", "k", lambda _old: b"2")):
            with pytest.raises(AdapterError):
                await call
        assert await adapter.get("s", "k") == b"1"
        assert shared().cli("XLEN", changes) == 1
        await adapter.erase()


async def test_no_moment_lies_between_writes_that_are_made_together() -> None:
    where = settings()
    async with opened(where) as adapter:
        writes = [Write(f"s{n % 3}", f"k{n}", b"1", False) for n in range(60)]
        assert await adapter.write_together(writes) == 60
        assert await adapter.write_together([Write("s1", "k1", b"2", True)]) == 0
        last = await adapter.moment_at(int(adapter.clock.now() * 1000))
        for moment in range(last - 70, last + 1):
            held = [one for one in (await adapter.past(moment, None, 1000)).keys if one.value is not None]
            assert len(held) in (0, 60)
        assert len((await adapter.past(last, None, 1000)).keys) == 60
        await adapter.erase()


async def test_writes_together_may_be_the_first_call_to_a_server() -> None:
    shared().cli("SCRIPT", "FLUSH")
    async with opened(settings()) as adapter:
        assert await adapter.write_together([Write("s", "k", b"1", False), Write("s", "m", b"2", True)]) == 2
        await adapter.erase()


async def test_a_cluster_keeps_no_history() -> None:
    adapter = RedisAdapter()
    with pytest.raises(StoreRefused, match="keeps no history with layout=cluster"):
        await adapter.open(RedisConfig(layout="cluster", history=KEPT))
    await adapter.close()


def test_every_version_script_notes_before_it_tells() -> None:
    for script in version_scripts.KEEPING:
        assert script.source.count("note(old, new, id)") == 2
        assert "if type(id) ~= 'table' then return id end" not in script.source


@pytest.mark.parametrize("keep", [3, 99, 100, 150])
async def test_as_many_versions_are_shown_as_are_kept(keep: int) -> None:
    """Where about as many are cut, more of them lie in the store; no page shows them."""
    where = settings()
    async with opened(where, HistorySettings(keep=keep)) as adapter:
        changes = [await adapter.set("s", "k", b"%d" % number) for number in range(420)]
        stored = shared().cli("XLEN", f"{where['key_prefix']}iii:version:1:sk")
        assert keep <= stored <= keep + 100
        if keep < 100:
            assert stored == keep
        for limit in (1000, 7):
            seen = list(await adapter.history("s", "k", None, limit))
            while page := await adapter.history("s", "k", seen[-1].revision, limit):
                seen += page
            assert [one.revision for one in seen] == [one.revision for one in reversed(changes[-keep:])]
        await adapter.maintain()
        assert shared().cli("XLEN", f"{where['key_prefix']}iii:version:1:sk") == keep
        await adapter.erase()


async def test_an_end_of_another_host_counts_for_a_write_with_history() -> None:
    """While no key has an end, writes do not ask for any; the first that is given is kept to all the same."""
    where, clock = settings(), Clock()
    async with opened(where, clock=clock) as one, opened(where, clock=clock) as two:
        for number in range(3):
            key = f"k{number}"
            await two.set("s", key, b"1")
            await two.update("s", key, lambda _old: b"2")
            at_ms = clock.now_ms() + 60_000
            assert await one.expire("s", key, at_ms) == Expiry(True, at_ms)
            clock.advance(61)
            assert (await two.set("s", key, b"3")).old is None
            assert await values(two, key) == [b"3", None, b"2", b"1"]
        await one.erase()
