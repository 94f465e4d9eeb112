"""The schema: its versions, its names, its bounds; and the package without its driver."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from iii_state_postgres import PostgresAdapter, PostgresConfig, layout
from support.postgres import PostgresServer
from support.redis import until

from iii_skill.adapter import OLDEST, HistorySettings
from iii_skill.errors import AdapterUnavailable, StoreRefused

from .conftest import OpenAdapter


async def test_hosts_that_start_at_once_make_one_schema(
    server: PostgresServer, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = [PostgresAdapter() for _ in range(4)]
    config = PostgresConfig(database_url=server.url, schema=schema)
    try:
        await asyncio.gather(*(host.open(config) for host in hosts))
        # None of them says that it changed what another one has just made.
        assert not caplog.records
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
        newest = len(layout.STEPS)
        assert server.sql(f"SELECT layout, note FROM {schema}.meta, {schema}.entry") == [[str(newest), ""]]
    with pytest.raises(StoreRefused, match=f"has layout {newest}, and this iii-skill knows {newest - 1}"):
        async with open_adapter():
            pass


@pytest.mark.parametrize("found", [1, 2, 3, 4])
async def test_a_schema_of_an_older_layout_is_brought_up_with_all_it_holds(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, found: int
) -> None:
    private = "__iii_skill/queue/jobs"
    names = [("s", "a"), ("s", "b"), (private, "j1"), (private, "j2")]
    made = (Path(__file__).parent / "layouts" / f"{found}.sql").read_text()
    server.sql(f"CREATE SCHEMA {schema}; {made.replace('{schema}', schema)}")
    for number, (scope, key) in enumerate(names, 1):
        # The first layout had private scopes in the buckets of all others.
        bucket = zlib.crc32(scope.encode()) % 16 if found == 1 else layout.place_of(scope).bucket
        server.sql(
            f"UPDATE {schema}.bucket SET revision = {number} WHERE id = {bucket}; "
            f"INSERT INTO {schema}.entry (scope, key, value, place, revision) "
            f"VALUES ('{scope}', '{key}', '{number}', {number}, {number}); "
            f"INSERT INTO {schema}.change (bucket, revision, scope, key, new) "
            f"VALUES ({bucket}, {number}, '{scope}', '{key}', '{number}')"
        )
    server.sql(
        f"UPDATE {schema}.meta SET layout = {found}; CREATE ROLE {schema}_app LOGIN; "
        f"GRANT USAGE ON SCHEMA {schema} TO {schema}_app; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {schema}_app"
    )
    async with open_adapter(changes_kept=1000, history=HistorySettings()) as adapter:
        assert server.sql(f"SELECT layout FROM {schema}.meta") == [[str(len(layout.STEPS))]]
        below = adapter.changes_below("__iii_skill/queue/")
        assert await adapter.list("s") == [("a", b"1"), ("b", b"2")]
        assert await adapter.list(private) == [("j1", b"3"), ("j2", b"4")]
        made_now = await adapter.set(private, "j3", b"5")
        assert made_now.revision > 4
        assert await anext(below) == made_now
        # Its place is behind those that were there.
        assert await adapter.keys(private) == ["j1", "j2", "j3"]
        assert (await adapter.set("s", "a", b"6")).revision > 2
        assert (await adapter.expire("s", "a", 1)).found
        await adapter.sweep()
        assert await adapter.list("s") == [("b", b"2")]
        await adapter.maintain()
        assert int(server.sql(f"SELECT count(*) FROM {schema}.change")[0][0]) == 7
        # Of what was before, nothing is noted.
        assert [version.value for version in await adapter.history("s", "a", None, 10)] == [None, b"6"]
        assert await adapter.history("s", "b", None, 10) == []
        moment = await adapter.moment_at(int(time.time() * 1000))
        page = await adapter.past(moment, None, 10)
        assert {(one.key, one.value, one.known_from_ms) for one in page.keys} == {
            ("a", None, None),
            ("b", b"2", None),
        }
        before = await adapter.past(0, None, 10)
        assert before.whole_from > 0
        assert all(one.known_from_ms == before.whole_from_ms for one in before.keys)
    # Who was given the tables has what was added.
    url = f"postgresql://{schema}_app@127.0.0.1:{server.port}/postgres"
    async with open_adapter(database_url=url, history=HistorySettings()) as adapter:
        await adapter.set("s", "c", b"7")
        await adapter.maintain()
        moment = await adapter.moment_at(int(time.time() * 1000) + 1)
        assert [one.key for one in (await adapter.past(moment, None, 10)).keys] == ["a", "b", "c"]
    functions = (
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        f"WHERE n.nspname = '{schema}'"
    )
    old = server.sql(functions)
    async with open_adapter(schema=f"{schema}_b"):
        assert server.sql(functions.replace(f"'{schema}'", f"'{schema}_b'")) == old


async def test_large_values_are_compressed_by_the_faster_method_where_there_is_one(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed = (
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        f"WHERE c.relnamespace = '{schema}'::regnamespace AND a.attcompression = 'l'"
    )
    ((known,),) = server.sql(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name ~ 'toast_compression'"
    )
    async with open_adapter():
        assert server.sql(compressed) == [["4" if known == "t" else "0"]]
    server.sql(f"DROP SCHEMA {schema} CASCADE")
    without = [step.replace("COMPRESSION lz4", "COMPRESSION other") for step in layout.STEPS]
    assert without != [*layout.STEPS]
    monkeypatch.setattr(layout, "STEPS", without)
    async with open_adapter() as adapter:
        assert (await adapter.set("s", "k", b"1" * 100_000)).old is None
        assert server.sql(compressed) == [["0"]]


@pytest.mark.parametrize("name", ["user", "left", "values", "pg_iii"])
async def test_a_schema_name_that_the_server_keeps_for_itself_is_refused(
    name: str, open_adapter: OpenAdapter
) -> None:
    with pytest.raises(StoreRefused, match=f"'{name}' is reserved by PostgreSQL: set another `schema`"):
        async with open_adapter(schema=name):
            pass


@pytest.mark.parametrize("name", ["public", "index", "_"])
async def test_any_other_name_is_one(name: str, open_adapter: OpenAdapter, server: PostgresServer) -> None:
    server.sql("ALTER DATABASE postgres SET quote_all_identifiers = on")
    try:
        async with open_adapter(schema=name, history=HistorySettings()) as adapter:
            made = await adapter.set("s", "k", b"1")
            assert (await adapter.log_page(OLDEST, 10)).rows[0].change == made
            assert (await adapter.expire("s", "k", 1)).found
            await adapter.sweep()
            await adapter.maintain()
            assert len(await adapter.history("s", "k", None, 10)) == 2
    finally:
        server.sql("ALTER DATABASE postgres RESET quote_all_identifiers")


async def test_a_connection_may_be_idle_whatever_the_default_of_the_user_is(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str
) -> None:
    server.sql(f"CREATE ROLE {schema}_idle LOGIN SUPERUSER")
    server.sql(f"ALTER ROLE {schema}_idle SET idle_session_timeout = '1min'")
    url = f"postgresql://{schema}_idle@127.0.0.1:{server.port}/postgres"
    show = "SELECT current_setting('idle_session_timeout')"
    async with open_adapter(database_url=url) as adapter:
        for use in (adapter.use_reader, adapter.use_writer):
            assert [tuple(row) for row in await use(lambda session: session.fetch(show))] == [("0",)]


async def test_private_scopes_are_told_to_their_owner_alone(open_adapter: OpenAdapter) -> None:
    async with open_adapter() as adapter, open_adapter() as other:
        public, queue = adapter.changes(), adapter.changes_below("__iii_skill/queue/")
        made = []
        for host in (adapter, other):
            await host.set("__iii_skill/cron/x", "k", b"1")
            await host.set("__iii_skill/queues", "k", b"1")
            made.append(await host.set("__iii_skill/queue/x", "k", b"2"))
            await host.set("__iii_skill/queue/y", "k", b"3")
        seen = [await anext(queue) for _ in range(4)]
        assert [change for change in seen if change.scope == "__iii_skill/queue/x"] == made
        last = await other.set("s", "k", b"4")
        assert await anext(public) == last


@pytest.mark.parametrize("code", ["40P01", "55P03", "57P01"])
async def test_a_step_that_something_is_in_the_way_of_is_tried_again(
    code: str, open_adapter: OpenAdapter, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
    steps = layout.STEPS
    hindered = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'in the way'; END $$"
    monkeypatch.setattr(layout, "STEPS", (*steps, hindered))
    async with open_adapter() as adapter:
        with pytest.raises(AdapterUnavailable):
            await adapter.get("s", "k")
        monkeypatch.setattr(layout, "STEPS", (*steps, "ALTER TABLE {schema}.entry ADD COLUMN note text"))
        await until(lambda: server.sql(f"SELECT layout FROM {schema}.meta") == [[str(len(steps) + 1)]])
        await until(lambda: adapter._reader.up)
        assert await adapter.get("s", "k") == b"1"


async def test_who_does_not_own_the_schema_is_told_who_may_change_its_layout(
    open_adapter: OpenAdapter, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_adapter():
        pass
    server.sql(
        f"CREATE ROLE {schema}_guest LOGIN; GRANT USAGE ON SCHEMA {schema} TO {schema}_guest; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {schema}_guest"
    )
    newest = len(layout.STEPS)
    monkeypatch.setattr(layout, "STEPS", (*layout.STEPS, "ALTER TABLE {schema}.entry ADD COLUMN note text"))
    found = f"has layout {newest} and cannot be brought to {newest + 1}: must be owner of table entry"
    with pytest.raises(StoreRefused, match=found):
        async with open_adapter(database_url=f"postgresql://{schema}_guest@127.0.0.1:{server.port}/postgres"):
            pass


async def test_a_step_that_fails_leaves_the_layout_as_it_was(
    open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
    with monkeypatch.context() as newer:
        newer.setattr(layout, "STEPS", (*layout.STEPS, "CREATE TABLE {schema}.more (); SELECT nonsense"))
        with pytest.raises(StoreRefused, match="cannot be brought to"):
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
        async with asyncio.timeout(60):
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
from iii_skill.adapter import OLDEST, HistorySettings
from iii_skill.errors import AdapterUnavailable, StoreRefused
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
