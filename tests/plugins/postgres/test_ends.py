"""Keys that end, in PostgreSQL: what the kit cannot see because it knows no database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from iii_state_postgres import PostgresAdapter, layout
from support.postgres import PostgresServer, connection
from support.redis import until

from iii_skill import open_host
from iii_skill.adapter import Expiry
from iii_skill.errors import AdapterError, AdapterTimeout
from iii_skill.testing import Proxy
from iii_skill.values import KEEP

from .conftest import OpenAdapter

FAR_MS = 2**53 - 1
CHANGES = "iii-skill::state::changes"


@pytest.mark.parametrize(
    ("calls", "ends"),
    [
        (lambda a: (a.set("s", "k", b"1"), a.expire("s", "k", FAR_MS)), True),
        (lambda a: (a.set("s", "k", b"1"), a.expire("s", "k", FAR_MS), a.set("s", "k", b"2")), False),
        (
            lambda a: (
                a.update("s", "k", lambda _: b"1"),
                a.expire("s", "k", FAR_MS),
                a.update("s", "k", lambda _: b"2"),
                a.update("s", "k", lambda _: b"3"),
            ),
            True,
        ),
        (
            lambda a: (
                a.set("s", "k", b"1"),
                a.expire("s", "k", FAR_MS),
                a.update("s", "k", lambda _: b"2"),
                a.set("s", "k", b"3"),
                a.update("s", "k", lambda _: b"4"),
            ),
            False,
        ),
        (
            lambda a: (
                a.set("s", "k", b"1"),
                a.expire("s", "k", FAR_MS),
                a.update("s", "k", lambda _: b"2"),
                a.update("s", "k", lambda _: None),
                a.update("s", "k", lambda _: b"3"),
            ),
            False,
        ),
        (lambda a: (a.set("s", "k", b"1"), a.expire("s", "k", FAR_MS), a.expire("s", "k", None)), False),
    ],
    ids=["given", "set", "updates", "a set among updates", "made again", "taken away"],
)
async def test_ends_are_in_order_with_the_writes_of_one_turn(
    calls: Callable[[PostgresAdapter], tuple[Any, ...]], ends: bool, adapter: PostgresAdapter
) -> None:
    # The first time it is there, so that the key has a queue or not.
    for _ in range(2):
        await asyncio.gather(*calls(adapter))
        assert await adapter.expire("s", "k", KEEP) == Expiry(True, FAR_MS if ends else None)


async def test_a_key_that_ends_is_never_remembered(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        await one.set("s", "k", b"1")
        for _ in range(3):
            assert await one.get("s", "k") == b"1"
        await two.expire("s", "k", 1)
        assert await one.get("s", "k") is None
        assert await one.list("s") == []
        assert (await one.update("s", "k", lambda old: old or b"2")).old is None
        assert await one.get("s", "k") == b"2"


async def test_an_end_of_a_lost_connection_is_not_given_after_a_later_set(
    server: PostgresServer, proxy: Proxy, open_adapter: OpenAdapter, schema: str
) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter, open_adapter() as other:
        await adapter.set("s", "k", b"1")
        program = await connection(server)
        locked = program.transaction()
        await locked.start()
        await program.execute(f"SELECT * FROM {schema}.bucket FOR UPDATE")
        answer = asyncio.ensure_future(_outcome(adapter.expire("s", "k", 1)))
        await until(lambda: waits(server))
        proxy.cut()
        assert isinstance(await answer, AdapterTimeout)
        later = asyncio.ensure_future(until(lambda: written(adapter)))
        # Its fence is raised while the lost statement still waits for the lock.
        await asyncio.sleep(0.3)
        await locked.rollback()
        await later
        await until(lambda: not waits(server))
        assert await other.get("s", "k") == b"2"
        assert await other.expire("s", "k", KEEP) == Expiry(True)
        await program.close()


async def _outcome(answer: Any) -> Any:
    try:
        return await answer
    except AdapterError as error:
        return error


async def written(adapter: PostgresAdapter) -> bool:
    """True when the set is acknowledged."""
    try:
        await adapter.set("s", "k", b"2")
    except AdapterError:
        return False
    return True


def waits(server: PostgresServer) -> bool:
    """True while a statement of an adapter waits for a lock."""
    waiting = "application_name = 'iii-skill' AND wait_event_type = 'Lock'"
    return server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}") != [["0"]]


async def test_many_ends_come_in_bounded_parts_by_several_hosts_each_once(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as one, open_adapter() as two:
        begin = (await one.log_page(None, 1)).next
        await asyncio.gather(*(one.set("s", f"k{number}", b"1") for number in range(1_000)))
        await asyncio.gather(*(two.expire("s", f"k{number}", 1 + number) for number in range(1_000)))

        async def sweep(host: PostgresAdapter) -> None:
            while await host.sweep() is not None:
                pass

        await asyncio.gather(*(sweep(host) for host in (one, two, one, two)))
        cursor, told = begin, []
        while (page := await two.log_page(cursor, 1_000)).rows:
            told += [row.change.key for row in page.rows if row.change.new is None]
            cursor = page.next
        # The oldest ends first.
        assert told == [f"k{number}" for number in range(1_000)]


async def test_a_schema_of_the_second_layout_is_brought_up(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    steps = "".join(layout.STEPS[:2]).replace("{schema}", schema)
    server.sql(
        f"CREATE SCHEMA {schema}; {steps} UPDATE {schema}.meta SET layout = 2; "
        f"CREATE FUNCTION {schema}.write(bigint, integer, bigint, smallint[], smallint[], bytea[], bytea[], "
        "bytea[], bytea[], boolean[], bytea[], bytea[], integer[], integer[], integer[], bytea[]) "
        "RETURNS void LANGUAGE sql AS ''; "
        f"UPDATE {schema}.bucket SET revision = 1; "
        f"INSERT INTO {schema}.entry (scope, key, value, place, revision) VALUES ('s', 'k', '1', 1, 1)"
    )
    async with open_adapter() as adapter:
        assert await adapter.get("s", "k") == b"1"
        assert await adapter.expire("s", "k", FAR_MS) == Expiry(True, FAR_MS)
        assert (await adapter.update("s", "k", lambda _old: b"2")).revision == 2
        assert await adapter.expire("s", "k", 1) == Expiry(True, 1)
        assert await adapter.sweep() is None
        assert await adapter.keys("s") == []
    functions = (
        f"SELECT count(*) FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace AND proname = 'write'"
    )
    assert server.sql(functions) == [["1"]]


async def test_every_host_tells_the_end_of_a_key_once(server: PostgresServer, schema: str) -> None:
    config: dict[str, Any] = {
        "adapter": "postgres",
        "adapter_config": {"database_url": server.url, "schema": schema},
    }
    async with open_host(**config) as one, open_host(**config) as two:
        begin = (await one.trigger(CHANGES, {}))["next"]
        for number in range(20):
            where = {"scope": "s", "key": f"k{number}"}
            await one.trigger("state::set", {**where, "value": number})
            await two.trigger("iii-skill::state::expire", {**where, "ttl_ms": 50})
        seen: dict[str, list[str]] = {"one": [], "two": []}
        for name, host in (("one", one), ("two", two)):
            cursor = begin
            async with asyncio.timeout(60):
                while len(seen[name]) < 20:
                    found = await host.trigger(CHANGES, {"after": cursor, "wait_ms": 500})
                    cursor = found["next"]
                    seen[name] += [
                        row["key"] for row in found["changes"] if row["event_type"] == "state:deleted"
                    ]
            rest = await host.trigger(CHANGES, {"after": cursor, "wait_ms": 1_200})
            assert rest["changes"] == []
        assert sorted(seen["one"]) == sorted(f"k{number}" for number in range(20)) == sorted(seen["two"])
        assert await one.trigger("state::list", {"scope": "s"}) in ([], {})
