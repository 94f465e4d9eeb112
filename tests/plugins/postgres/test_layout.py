"""The schema: its versions, its names, its bounds; and the package without its driver."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from iii_state_postgres import PostgresAdapter, PostgresConfig, layout
from support.postgres import PostgresServer
from support.redis import until

from iii_skill.errors import StoreRefused

from .conftest import OpenAdapter


async def test_hosts_that_start_at_once_make_one_schema(server: PostgresServer, schema: str) -> None:
    hosts = [PostgresAdapter() for _ in range(4)]
    config = PostgresConfig(database_url=server.url, schema=schema)
    try:
        await asyncio.gather(*(host.open(config) for host in hosts))
        await asyncio.gather(*(host.update("s", "n", lambda old: (old or b"") + b"1") for host in hosts))
        assert await hosts[0].get("s", "n") == b"1111"
    finally:
        await asyncio.gather(*(host.close() for host in hosts))


async def test_schemas_of_one_database_know_nothing_of_each_other(
    server: PostgresServer, open_adapter: OpenAdapter, schema: str
) -> None:
    async with open_adapter() as here, open_adapter(schema=f"{schema}_b") as there:
        changes = here.changes()
        await there.set("s", "k", b"1")
        made = await here.set("s", "k", b"2")
        assert await anext(changes) == made
        assert await there.get("s", "k") == b"1"


async def test_an_older_layout_is_brought_up_and_a_newer_one_refused(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
    step = "ALTER TABLE {schema}.entry ADD COLUMN note text"
    with monkeypatch.context() as newer:
        newer.setattr(layout, "STEPS", (*layout.STEPS, step))
        async with open_adapter() as adapter, open_adapter() as other:
            assert await adapter.get("s", "k") == b"1"
            assert await other.get("s", "k") == b"1"
        assert server.sql(f"SELECT layout, note FROM {schema}.meta, {schema}.entry") == [["2", ""]]
    with pytest.raises(StoreRefused, match="has layout 2, and this iii-skill knows 1"):
        async with open_adapter():
            pass


async def test_a_step_that_fails_leaves_the_layout_as_it_was(
    open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
    with monkeypatch.context() as newer:
        newer.setattr(layout, "STEPS", (*layout.STEPS, "CREATE TABLE {schema}.more (); SELECT nonsense"))
        with pytest.raises(StoreRefused, match="cannot be made"):
            async with open_adapter():
                pass
    async with open_adapter() as adapter:
        assert await adapter.get("s", "k") == b"1"


async def test_long_names_that_begin_alike_are_different_keys(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        names = [
            "x" * layout.LONGEST,
            "x" * (layout.LONGEST + 1),
            "x" * 9_000 + "a",
            "x" * 9_000 + "b",
            layout.indexed(b"x" * 9_000)[0].decode("latin-1"),
        ]
        changes = adapter.changes()
        for scope in names:
            await asyncio.gather(*(adapter.set(scope, key, b"1") for key in names))
            assert await adapter.keys(scope) == names
        assert sorted(await adapter.scopes()) == sorted(names)
        seen = [await anext(changes) for _ in range(len(names) ** 2)]
        assert {(change.scope, change.key) for change in seen} == {
            (scope, key) for scope in names for key in names
        }


async def test_the_log_of_changes_is_bounded_by_number_and_by_bytes(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    def left() -> int:
        return int(server.sql(f"SELECT count(*) FROM {schema}.change")[0][0])

    async with open_adapter(changes_kept=80) as adapter:
        for _ in range(20):
            await asyncio.gather(*(adapter.set("s", f"k{number}", b"1") for number in range(40)))
        # An eighth more may be there, and what one turn has written.
        await until(lambda: left() <= 80 + 10 + 40)
        assert len(await adapter.keys("s")) == 40
    async with open_adapter(change_bytes=200_000) as adapter:
        large = b'"' + b"x" * 10_000 + b'"'
        for _ in range(60):
            await adapter.set("s", "large", large)
        await until(lambda: left() <= 20)


async def test_a_host_that_was_away_longer_than_the_log_reaches_is_told_of_it(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_adapter() as adapter:
        changes = adapter.changes()
        await adapter.set("s", "k", b"1")
        assert (await anext(changes)).new == b"1"
        following = asyncio.ensure_future(anext(changes))
        server.sql(f"UPDATE {schema}.bucket SET revision = revision + 5")
        made = await adapter.set("s", "k", b"2")
        assert await following == made
        assert "were deleted from the log before this host had read them" in caplog.text


async def test_a_slow_follower_reads_all_of_a_long_log_in_order(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        changes = adapter.changes()
        scopes = [f"s{number}" for number in range(20)]
        for value in range(30):
            calls = [adapter.set(scope, key, b"%d" % value) for scope in scopes for key in ("a", "b")]
            await asyncio.gather(*calls)
        seen: dict[tuple[str, str], list[bytes | None]] = {}
        async with asyncio.timeout(30):
            for _ in range(30 * 40):
                change = await anext(changes)
                seen.setdefault((change.scope, change.key), []).append(change.new)
        assert len(seen) == 40
        assert all(values == [b"%d" % value for value in range(30)] for values in seen.values())


async def test_pages_are_read_by_place_and_tell_how_many_there_are(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter:
        keys = [f"k{number}" for number in range(25)]
        await asyncio.gather(*(adapter.set("s", key, b"1") for key in keys))
        seen: list[str] = []
        after: str | None = None
        while True:
            page = await adapter.page("s", after, 10)
            assert page.total == 25
            seen += [key for key, _ in page.pairs]
            after = page.after
            if after is None:
                break
            # What is made, moved or deleted meanwhile does not disturb the others.
            await asyncio.gather(adapter.delete("s", keys[0]), adapter.set("s", keys[0], b"2"))
        assert seen == [*keys, keys[0]]
        assert (await adapter.page("nowhere", None, 10)).total == 0


async def test_health_tells_what_the_server_promises(
    open_adapter: OpenAdapter, server: PostgresServer
) -> None:
    async with open_adapter() as adapter:
        health = await adapter.health()
        assert health.ok
        assert health.warnings == []
        assert health.facts["synchronous_commit"] == "on"
        assert str(health.facts["version"]).split(".")[0].isdigit()
        server.shut_down()
        await until(lambda: away(adapter))
        server.start()
        await until(lambda: back(adapter))


async def away(adapter: PostgresAdapter) -> bool:
    """True when it says so."""
    health = await adapter.health()
    return not health.ok and "PostgreSQL at" in health.message


async def back(adapter: PostgresAdapter) -> bool:
    """True when all is well."""
    return (await adapter.health()).ok


async def test_maintenance_cuts_the_log_and_forgets_hosts_that_are_gone(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter() as adapter:
        await asyncio.gather(*(adapter.set("s", f"k{number}", b"1") for number in range(50)))
        server.sql(f"INSERT INTO {schema}.writer (seen) VALUES (now() - interval '8 days')")
    async with open_adapter(changes_kept=10) as adapter:
        await adapter.maintain()
        assert server.sql(f"SELECT count(*) FROM {schema}.change") == [["10"]]
        assert server.sql(f"SELECT count(*) FROM {schema}.writer") == [["1"]]


async def test_an_erased_store_leaves_no_schema(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
        await adapter.erase()
    assert server.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'") == [["0"]]


def test_a_schema_name_that_is_none_is_refused() -> None:
    import msgspec

    for name in ("", "a b", 'x"; DROP', "Upper", "9a", "x" * 60):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"schema": name}, PostgresConfig)


def test_the_plugin_loads_without_its_driver_and_says_what_to_install() -> None:
    script = """
import asyncio, sys
sys.modules["asyncpg"] = None
from iii_skill.errors import StoreRefused
from iii_skill.plugins import load_plugins
adapter = load_plugins().adapter("postgres")()
try:
    asyncio.run(adapter.open(adapter.config_type(database_url="postgresql://localhost/x")))
except StoreRefused as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'iii-skill[postgres]'" in done.stdout


def test_the_driver_is_not_imported_before_an_adapter_opens() -> None:
    script = "import sys, iii_state_postgres; print('asyncpg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
