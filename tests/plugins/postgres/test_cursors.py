"""`iii-skill::state::changes` over Postgres: cursors that hold at every host, over restarts and breaks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from iii_state_postgres import PostgresAdapter
from support.postgres import PostgresServer
from support.redis import until

from iii_skill import InvocationError, open_host
from iii_skill.adapter import OLDEST, LogPage
from iii_skill.errors import AdapterError, CallerError, CapabilityMissing, CursorTooOld

from .conftest import OpenAdapter

CHANGES = "iii-skill::state::changes"


async def all_after(adapter: PostgresAdapter, cursor: str | None, *, limit: int = 7) -> list[Any]:
    """Every change after the cursor, page by page."""
    found: list[Any] = []
    while True:
        page: LogPage = await adapter.log_page(cursor, limit)
        assert len(page.rows) <= limit
        if not page.rows:
            assert page.next == cursor
            return found
        assert page.next == page.rows[-1].cursor
        found += page.rows
        cursor = page.next


async def test_every_change_is_told_once_from_any_cursor_by_any_host(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        begin = (await one.log_page(None, 10)).next
        made = []
        for number in range(60):
            host = (one, two)[number % 2]
            made.append(await host.set(f"scope{number % 9}", f"k{number % 4}", b"%d" % number))
        await one.set("__iii_skill/queue/x", "k", b"1")
        rows = await all_after(one, begin)
        assert {row.change.new: row.change for row in rows} == {change.new: change for change in made}
        assert len(rows) == 60
        times = [row.at_ms for row in rows]
        assert times[0] > 1_600_000_000_000
        for number in random.Random(1).sample(range(60), 8):
            rest = await all_after(two, rows[number].cursor, limit=1000)
            # Nothing twice, nothing left out; the order of scopes may be another one.
            assert {r.change.new for r in rest} == {r.change.new for r in rows[number + 1 :]}
            for scope in {r.change.scope for r in rest}:
                mine = [r.change.revision for r in rest if r.change.scope == scope]
                assert mine == sorted(mine)
        assert await all_after(one, OLDEST) == rows


async def test_a_cursor_holds_after_the_last_host_is_gone(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "a", b"1")
        cursor = (await adapter.log_page(None, 1)).next
        made = await adapter.delete("s", "a")
    async with open_adapter() as adapter:
        assert [row.change for row in await all_after(adapter, cursor)] == [made]


async def test_what_was_cut_is_told_and_the_oldest_cursor_works(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter(changes_kept=5) as adapter:
        begin = (await adapter.log_page(None, 1)).next
        for number in range(12):
            await adapter.set("s", "k", b"%d" % number)
        await adapter.maintain()
        with pytest.raises(CursorTooOld, match="behind what the store keeps") as caught:
            await adapter.log_page(begin, 10)
        assert caught.value.code == "CURSOR_TOO_OLD"
        page = await adapter.log_page(OLDEST, 100)
        assert [row.change.new for row in page.rows] == [b"7", b"8", b"9", b"10", b"11"]
        assert [row.change for row in await all_after(adapter, page.oldest)] == [
            row.change for row in page.rows
        ]
        server.sql(f"DELETE FROM {schema}.change")
        with pytest.raises(CursorTooOld):
            await adapter.log_page(page.oldest, 10)
        assert not (await adapter.log_page(OLDEST, 10)).rows


async def test_a_store_that_lost_changes_refuses_cursors_from_before(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
        cursor = (await adapter.log_page(None, 1)).next
        # As a failover without a synchronous standby does.
        server.sql(f"DELETE FROM {schema}.change; UPDATE {schema}.bucket SET revision = 0")
        with pytest.raises(CursorTooOld, match="lost changes"):
            await adapter.log_page(cursor, 10)
    async with open_adapter(schema=f"{schema}_other") as other:
        with pytest.raises(CursorTooOld, match="another store"):
            await other.log_page(cursor, 10)


@pytest.mark.parametrize(
    "cursor", ["", "x", "abc-1", "abc-" + ".".join("1" * 15), "a-" + ".".join(["9" * 19] * 16), "a-١", "é-1"]
)
async def test_what_is_no_cursor_is_refused(cursor: str, adapter: PostgresAdapter) -> None:
    with pytest.raises(CallerError) as caught:
        await adapter.log_page(cursor, 10)
    assert caught.value.code == "INVALID_CURSOR"


async def test_large_changes_come_in_bounded_pages(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        large = b'"' + b"x" * 600_000 + b'"'
        for number in range(6):
            await adapter.set("s", f"k{number}", large)
        page = await adapter.log_page(OLDEST, 100)
        assert 0 < len(page.rows) < 6
        assert len(await all_after(adapter, OLDEST)) == 6


class TestOfAHost:
    """The function, as a worker calls it."""

    @staticmethod
    def config(server: PostgresServer, schema: str) -> dict[str, Any]:
        """The settings of a host."""
        return {"adapter": "postgres", "adapter_config": {"database_url": server.url, "schema": schema}}

    async def test_a_listener_of_one_host_goes_on_at_another(
        self, server: PostgresServer, schema: str
    ) -> None:
        async with open_host(**self.config(server, schema)) as host:
            begin = (await host.trigger(CHANGES, {}))["next"]
            await host.trigger("state::set", {"scope": "a", "key": "k", "value": 1})
            await host.trigger("state::set", {"scope": "b", "key": "k", "value": 2})
            found = await host.trigger(CHANGES, {"after": begin, "limit": 1})
            assert len(found["changes"]) == 1
        async with open_host(**self.config(server, schema)) as host:
            await host.trigger("state::delete", {"scope": "a", "key": "k"})
            rest = await host.trigger(CHANGES, {"after": found["next"]})
            both = found["changes"] + rest["changes"]
            assert sorted((row["scope"], row["event_type"]) for row in both) == [
                ("a", "state:created"),
                ("a", "state:deleted"),
                ("b", "state:created"),
            ]
            assert rest["changes"][-1]["cursor"] == rest["next"]
            only = await host.trigger(CHANGES, {"after": begin, "scope": "b", "values": False})
            assert [row["key"] for row in only["changes"]] == ["k"]
            assert "new_value" not in only["changes"][0]
            with pytest.raises(InvocationError) as caught:
                await host.trigger(CHANGES, {"after": "nonsense"})
            assert caught.value.code == "INVALID_CURSOR"

    async def test_the_newest_are_told_and_the_others_counted(
        self, server: PostgresServer, schema: str
    ) -> None:
        config = self.config(server, schema)
        config["adapter_config"]["changes_kept"] = 10
        async with open_host(**config) as host, open_host(**config) as other:
            begin = (await host.trigger(CHANGES, {}))["next"]
            for number in range(60):
                payload = {"scope": f"s{number % 3}", "key": "k", "value": number}
                await (host, other)[number % 2].trigger("state::set", payload)
            found = await host.trigger(CHANGES, {"after": begin, "newest": 5})
            assert [row["new_value"] for row in found["changes"]] == list(range(55, 60))
            # Those that the log has forgotten are among them.
            assert found["left_out"] == 55
            again = await host.trigger(CHANGES, {"after": found["next"], "newest": 5, "wait_ms": 20})
            assert again["changes"] == []
            assert "left_out" not in again
            all_kept = await host.trigger(CHANGES, {"after": "oldest", "newest": 1000})
            assert all_kept["changes"][-5:] == found["changes"]
            assert "left_out" not in all_kept
            waiting = asyncio.ensure_future(
                host.trigger(CHANGES, {"after": found["next"], "newest": 2, "wait_ms": 30_000}, timeout=40)
            )
            await other.trigger("state::set", {"scope": "s9", "key": "k", "value": 60})
            async with asyncio.timeout(60):
                assert [row["new_value"] for row in (await waiting)["changes"]] == [60]

    async def test_a_wait_ends_with_the_first_change_that_is_wanted_of_any_host(
        self, server: PostgresServer, schema: str
    ) -> None:
        config = self.config(server, schema)
        async with open_host(**config) as here, open_host(**config) as there:
            begin = (await here.trigger(CHANGES, {}))["next"]
            wanted = {"after": begin, "scope": "wanted", "wait_ms": 30_000}
            waiting = asyncio.ensure_future(here.trigger(CHANGES, wanted, timeout=40))
            await asyncio.sleep(0.2)
            for scope in ("other", "wanted"):
                await there.trigger("state::set", {"scope": scope, "key": "k", "value": 1})
            async with asyncio.timeout(60):
                found = await waiting
            assert [row["scope"] for row in found["changes"]] == ["wanted"]
            nothing = await here.trigger(CHANGES, {"after": found["next"], "wait_ms": 50})
            assert nothing["changes"] == []

    async def test_a_listener_misses_nothing_while_the_server_is_killed_under_load(
        self, server: PostgresServer, schema: str
    ) -> None:
        config = self.config(server, schema)
        async with open_host(**config) as host, open_host(**config) as writer:
            cursor = (await host.trigger(CHANGES, {}))["next"]
            done: list[int] = []
            stop = False

            async def write() -> None:
                number = 0
                while not stop:
                    number += 1
                    try:
                        await writer.trigger(
                            "state::set", {"scope": f"s{number % 5}", "key": "k", "value": number}
                        )
                    except InvocationError:
                        await asyncio.sleep(0.02)
                    else:
                        done.append(number)

            seen: list[int] = []

            async def listen() -> None:
                nonlocal cursor
                # The order of scopes may be another one than that of the writes.
                while not (stop and set(done) <= set(seen)):
                    try:
                        found = await host.trigger(CHANGES, {"after": cursor, "wait_ms": 200, "limit": 50})
                    except InvocationError as error:
                        if error.code in ("CURSOR_TOO_OLD", "INVALID_CURSOR"):
                            raise
                        await asyncio.sleep(0.02)
                        continue
                    cursor = found["next"]
                    seen.extend(row["new_value"] for row in found["changes"])

            listening, writing = asyncio.ensure_future(listen()), asyncio.ensure_future(write())
            for goal in (100, 200):
                await until(lambda goal=goal: len(done) >= goal)  # type: ignore[misc]
                server.kill()
                server.start()
            await until(lambda: len(done) >= 300)
            stop = True
            await writing
            async with asyncio.timeout(60):
                await listening
            assert len(seen) == len(set(seen))


async def test_the_log_of_a_server_that_is_away_is_an_error_in_time(
    server: PostgresServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        server.shut_down()
        with pytest.raises(AdapterError):
            async with asyncio.timeout(40):
                await adapter.log_page(None, 1)
        server.start()


def test_other_adapters_say_that_they_keep_no_log() -> None:
    from iii_state_memory import MemoryAdapter

    with pytest.raises(CapabilityMissing, match="keeps no log of changes"):
        MemoryAdapter().log_page(None, 1)
