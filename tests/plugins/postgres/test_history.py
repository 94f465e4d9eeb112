"""History over Postgres: several hosts, with and without it, a log that is cut early, strangers."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from iii_state_postgres import PostgresAdapter
from support.postgres import PostgresServer, connection
from support.redis import until

from iii_skill import open_host
from iii_skill.adapter import HistorySettings, PastKey, Version, Write
from iii_skill.errors import CallerError, CapabilityMissing
from iii_skill.testing.kit.past import expect_past

from .conftest import OpenAdapter

Held = dict[tuple[str, str], bytes]


async def past_of(adapter: PostgresAdapter, moment: int, *, limit: int = 1000) -> tuple[list[PastKey], bool]:
    """What all pages tell of a moment, and whether no key can be missing."""
    keys: list[PastKey] = []
    whole, after = True, None
    while True:
        page = await adapter.past(moment, after, limit)
        keys += page.keys
        whole = whole and moment >= page.whole_from
        if page.after is None:
            return keys, whole
        after = page.after


def values_of(versions: list[Version]) -> list[bytes | None]:
    return [version.value for version in versions]


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_told_is_true_whichever_hosts_keep_history_and_however_short_the_log_is(
    open_adapter: OpenAdapter, seed: int
) -> None:
    chance = random.Random(seed)
    keep = chance.choice((1, 2, 3, 1000))
    kept = HistorySettings(keep=keep, days=1 if seed % 2 else 3650)
    async with (
        open_adapter(changes_kept=8, history=kept) as one,
        open_adapter(changes_kept=8, history=kept) as two,
        open_adapter(changes_kept=8) as without,
    ):
        two.clock = without.clock = one.clock
        held: Held = {}
        moments: list[tuple[int, Held]] = []
        for step in range(300):
            one.clock.advance(chance.uniform(60, 1200))
            # The one without it is the only one for a while, so that the log is cut before it is copied.
            alone = 100 <= step < 150
            host = without if alone else chance.choice((one, two, without))
            scope, key = chance.choice("xyz"), f"key-{chance.randrange(8)}"
            if chance.random() < 0.3:
                await host.delete(scope, key)
                held.pop((scope, key), None)
            else:
                await host.set(scope, key, b"%d" % step)
                held[scope, key] = b"%d" % step
            one.clock.advance(1)
            moments.append((int(one.clock.now() * 1000), dict(held)))
            if step % 20 == 13:
                await (without if alone else chance.choice((one, two, without))).maintain()
        one.clock.advance(1)
        assert (await one.past(0, None, 1)).whole_from > 0
        for at_ms, then in [moments[n] for n in sorted(chance.sample(range(300), 25))] + moments[-1:]:
            moment = await chance.choice((one, two)).moment_at(at_ms)
            found, whole = await past_of(two, moment, limit=chance.choice((4, 1000)))
            expect_past(found, whole, then, known=then is moments[-1][1])
        with pytest.raises(CapabilityMissing):
            await without.moment_at(1)


async def test_without_losses_the_past_is_known_from_the_start(open_adapter: OpenAdapter) -> None:
    # Hosts without history write too, but the log reaches back to what was copied.
    async with open_adapter(history=HistorySettings(keep=1000)) as one, open_adapter() as without:
        without.clock = one.clock
        held: Held = {}
        moments: list[tuple[int, Held]] = []
        for step in range(120):
            one.clock.advance(1)
            host = (one, without)[step % 2]
            name = f"s{step % 7}", f"k{step % 11}"
            await host.set(*name, b"%d" % step)
            held[name] = b"%d" % step
            one.clock.advance(1)
            moments.append((int(one.clock.now() * 1000), dict(held)))
            if step % 30 == 10:
                await without.maintain()
                await one.maintain()
        one.clock.advance(1)
        for at_ms, then in moments:
            found, whole = await past_of(one, await one.moment_at(at_ms))
            expect_past(found, whole, then, known=True)


async def test_versions_outlive_the_log_that_they_came_from(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    def left() -> int:
        return int(server.sql(f"SELECT count(*) FROM {schema}.change")[0][0])

    async with open_adapter(changes_kept=16, history=HistorySettings(keep=1000)) as adapter:
        made = []
        for number in range(20):
            calls = [adapter.set("s", key, b"%d" % number) for key in "abcde"]
            made.append((await asyncio.gather(*calls))[2])
        await until(lambda: left() <= 16 + 2 + 5)
        versions = await adapter.history("s", "c", None, 1000)
        assert [(v.revision, v.value) for v in versions] == [(c.revision, c.new) for c in reversed(made)]


async def test_history_that_is_given_later_begins_with_what_the_log_holds(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter(changes_kept=10) as adapter:
        for number in range(40):
            await adapter.set("s", f"k{number % 20}", b"%d" % number)
        await adapter.maintain()
        await adapter.delete("s", "k0")
    async with open_adapter(history=HistorySettings()) as adapter:
        assert values_of(list(await adapter.history("s", "k19", None, 10))) == [b"39"]
        moment = await adapter.moment_at(int(time.time() * 1000))
        found, whole = await past_of(adapter, moment)
        held = {("s", f"k{number % 20}"): b"%d" % number for number in range(21, 40)}
        expect_past(found, whole, held, known=True)
        found, whole = await past_of(adapter, moment - 3)
        expect_past(found, whole, {**held, ("s", "k0"): b"20"}, known=False)
        # Of what was cut before, nobody knows what it was.
        page = await adapter.past(1, None, 1000)
        assert page.whole_from > 1
        assert {one.key for one in page.keys if one.known_from_ms is not None} == {
            f"k{number}" for number in range(20)
        }


async def test_what_strangers_change_makes_the_past_unknown_not_wrong(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter(history=HistorySettings()) as adapter:
        await adapter.set("s", "a", b"1")
        await adapter.set("s", "b", b"2")
        before = await adapter.moment_at(int(time.time() * 1000))
        server.sql(f"UPDATE {schema}.entry SET value = '3' WHERE key = 'a'")
        server.sql(f"DELETE FROM {schema}.entry WHERE key = 'b'")
        await adapter.maintain()
        now = await adapter.moment_at(int(time.time() * 1000) + 1)
        found, whole = await past_of(adapter, now)
        assert now >= before
        expect_past(found, whole, {("s", "a"): b"3"}, known=False)
        await adapter.set("s", "c", b"4")
        found, whole = await past_of(adapter, await adapter.moment_at(int(time.time() * 1000) + 1))
        expect_past(found, whole, {("s", "a"): b"3", ("s", "c"): b"4"}, known=True)


async def test_many_versions_are_dropped_some_at_a_time(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    def count() -> int:
        return int(server.sql(f"SELECT count(*) FROM {schema}.version")[0][0])

    async with open_adapter(history=HistorySettings(keep=5, days=1)) as adapter:
        for number in range(6):
            writes = [Write("s", f"k{key}", b"%d" % number, False) for key in range(1500)]
            await adapter.write_together(writes)
        await adapter.write_together([Write("s", f"k{key}", None, False) for key in range(700)])
        await adapter.maintain()
        # The five newest of each key; and the host that keeps fewer drops more of those that change.
        assert count() == 1500 * 5
        adapter.clock.advance(2 * 86_400)
        await adapter.maintain()
        assert count() == 800
        page = await adapter.past(await adapter.moment_at(int(time.time() * 1000) - 60_000), None, 5)
        assert page.whole_from > 0
        now = await adapter.moment_at(int(adapter.clock.now() * 1000))
        found, whole = await past_of(adapter, now)
        expect_past(found, whole, {("s", f"k{key}"): b"5" for key in range(700, 1500)}, known=True)


async def test_fewer_versions_leave_no_hole(open_adapter: OpenAdapter) -> None:
    async with open_adapter(history=HistorySettings(keep=500)) as adapter:
        for number in range(60):
            await adapter.set("s", "k", b"%d" % number)
            adapter.clock.advance(1)
        await adapter.maintain()
    async with open_adapter(history=HistorySettings(keep=2)) as adapter:
        moments = []
        adapter.clock.advance(100)
        for number in range(60, 70):
            adapter.clock.advance(1)
            await adapter.set("s", "k", b"%d" % number)
            adapter.clock.advance(1)
            moments.append((int(adapter.clock.now() * 1000), {("s", "k"): b"%d" % number}))
            if number % 5 == 0:
                await adapter.maintain()
        adapter.clock.advance(1)
        for at_ms, then in moments:
            found, whole = await past_of(adapter, await adapter.moment_at(at_ms))
            expect_past(found, whole, then, known=then == moments[-1][1])


async def test_a_page_is_bounded_in_bytes_and_goes_on(open_adapter: OpenAdapter) -> None:
    large = b'"' + b"x" * 3_000_000 + b'"'
    async with open_adapter(history=HistorySettings()) as adapter:
        for key in "abcde":
            await adapter.set("s", key, large)
        await adapter.set("__iii_skill/queue/x", "k", b"1")
        moment = await adapter.moment_at(int(time.time() * 1000) + 1)
        sizes: list[int] = []
        names: list[str] = []
        after = None
        while True:
            page = await adapter.past(moment, after, 100)
            sizes.append(len(page.keys))
            names += [one.key for one in page.keys]
            after = page.after
            if after is None:
                break
        assert names == list("abcde")
        assert max(sizes) == 2
        assert all(value == large for value in values_of(list(await adapter.history("s", "a", None, 10))))
        assert await adapter.history("__iii_skill/queue/x", "k", None, 10) == []


async def test_odd_names_are_told_whole_and_a_wrong_place_is_refused(open_adapter: OpenAdapter) -> None:
    names = ["", "\0", "x" * 9_000, "é\ud800", "__iii_skill", "__iii_skill0"]
    async with open_adapter(history=HistorySettings()) as adapter:
        held = {(scope, key): b"1" for scope in names for key in names}
        for scope, key in held:
            await adapter.set(scope, key, b"1")
        moment = await adapter.moment_at(int(time.time() * 1000) + 1)
        for scope, key in list(held)[::2]:
            await adapter.delete(scope, key)
        for limit in (1, 7):
            found, whole = await past_of(adapter, moment, limit=limit)
            expect_past(found, whole, held, known=True)
            assert len(found) == len(held)
        for wrong in ("", ".x", "zz.", "00", "0.0", "00.00\n"):
            with pytest.raises(CallerError):
                await adapter.past(moment, wrong, 10)


async def test_a_moment_waits_for_commits_that_are_under_way(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter(history=HistorySettings()) as adapter, open_adapter() as other:
        await adapter.set("s", "a", b"1")
        # A transaction of a stranger holds the bucket: the write waits for it, its moment is not taken yet.
        stranger = await connection(server)
        locked = stranger.transaction()
        await locked.start()
        await stranger.execute(f"SELECT 1 FROM {schema}.bucket WHERE revision > 0 FOR UPDATE")
        write = asyncio.ensure_future(other.set("s", "a", b"2"))
        waits = "application_name = 'iii-skill' AND wait_event_type = 'Lock'"
        await until(lambda: bool(server.sql(f"SELECT 1 FROM pg_stat_activity WHERE {waits}")))
        at_ms = int(time.time() * 1000)
        asked = asyncio.ensure_future(adapter.moment_at(at_ms))
        # It is answered before the write or after it, and tells the same in both cases.
        await asyncio.wait([asked], timeout=0.2)
        await locked.rollback()
        moment = await asked
        first = await past_of(adapter, moment)
        await write
        assert await past_of(adapter, moment) == first
        await stranger.close()


async def test_a_host_copies_what_hosts_without_history_wrote_by_itself(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PostgresAdapter.maintenance_seconds == 60.0
    monkeypatch.setattr(PostgresAdapter, "maintenance_seconds", 0.05)
    config = {"database_url": server.url, "schema": schema, "history": {}}
    async with open_host(adapter="postgres", adapter_config=config), open_adapter() as without:
        await without.set("s", "k", b"1")
        await until(lambda: server.sql(f"SELECT count(*) FROM {schema}.version") == [["1"]])
