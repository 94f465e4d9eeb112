"""The database breaks in every way we know: each call is answered in time, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path

import asyncpg
import pytest
from iii_state_postgres import PostgresAdapter
from support.postgres import PostgresServer, connection, owner, postgres_server
from support.redis import until

from iii_skill.adapter import Write
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable, StoreRefused
from iii_skill.testing import Proxy
from iii_skill.values import Change

from .conftest import OpenAdapter

FATE = "the fate of the write is unknown"


def bump(old: bytes | None) -> bytes:
    """Add one."""
    return b"%d" % (int(old or 0) + 1)


async def works(adapter: PostgresAdapter) -> bool:
    """True when a write and a read are answered."""
    try:
        await adapter.set("probe", "k", b"1")
        await adapter.get("probe", "k")
    except AdapterError:
        return False
    return True


async def outcome(call: Awaitable[object]) -> AdapterError:
    """The error of a call, which does not wait for the time-out of an adapter that was given none."""
    with pytest.raises(AdapterError) as caught:
        async with asyncio.timeout(40):
            await call
    return caught.value


class Counting:
    """Workers that add one to a key each, and what they were told."""

    def __init__(self, adapter: PostgresAdapter) -> None:
        self.acknowledged = 0
        self.unknown = 0
        self._adapter = adapter
        self._stop = False
        self._tasks = [asyncio.ensure_future(self._add(number)) for number in range(8)]

    async def _add(self, number: int) -> None:
        while not self._stop:
            try:
                await self._adapter.update("count", f"k{number}", bump)
            except AdapterTimeout:
                self.unknown += 1
            except AdapterUnavailable:
                await asyncio.sleep(0.01)
            else:
                self.acknowledged += 1

    async def end(self) -> int:
        """Stop, and give what the keys sum up to."""
        self._stop = True
        await asyncio.gather(*self._tasks)
        await until(lambda: works(self._adapter))
        return sum(int(value) for _, value in await self._adapter.list("count"))


async def test_a_server_that_is_absent_at_start_is_waited_for(
    server: PostgresServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    server.shut_down()
    async with open_adapter() as adapter:
        assert f"PostgreSQL at 127.0.0.1:{server.port} cannot be used now: Connection refused." in caplog.text
        calls = (adapter.get("s", "k"), adapter.set("s", "k", b"1"), adapter.update("s", "k", bump))
        together = adapter.write_together([Write("s", "k", b"1", if_absent=False)])
        for call in (*calls, adapter.list("s"), adapter.scopes(), together):
            assert isinstance(await outcome(call), AdapterUnavailable)
        changes = adapter.changes()
        first = asyncio.ensure_future(anext(changes))
        server.start()
        await until(lambda: works(adapter))
        async with asyncio.timeout(60):
            assert (await first).scope == "probe"


@pytest.mark.parametrize("how", ["kill", "shut_down", "terminate"])
async def test_no_acknowledged_write_is_lost_when_the_server_goes_under_load(
    how: str, server: PostgresServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        changes = adapter.changes()
        seen: list[Change] = []

        async def follow() -> None:
            async for change in changes:
                if change.scope == "count":
                    seen.append(change)

        following = asyncio.ensure_future(follow())
        counting = Counting(adapter)
        for goal in (200, 500):
            await until(lambda goal=goal: counting.acknowledged >= goal)  # type: ignore[misc]
            if how == "terminate":
                server.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'iii-skill'"
                )
            else:
                getattr(server, how)()
                server.start()
        await until(lambda: counting.acknowledged >= 800)
        total = await counting.end()
        assert counting.acknowledged <= total <= counting.acknowledged + counting.unknown
        await until(lambda: len(seen) >= total)
        for number in range(8):
            values = [int(change.new or 0) for change in seen if change.key == f"k{number}"]
            assert values == list(range(1, len(values) + 1))
        following.cancel()


async def test_connections_that_are_cut_again_and_again_do_nothing_twice_and_lose_nothing(
    proxy: Proxy, open_adapter: OpenAdapter
) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter:
        counting = Counting(adapter)
        for goal in range(100, 1_000, 100):
            await until(lambda goal=goal: counting.acknowledged >= goal)  # type: ignore[misc]
            proxy.cut()
        assert await counting.end() == counting.acknowledged
        assert counting.unknown == 0


async def test_a_commit_whose_answer_is_lost_is_asked_for_and_not_done_again(
    server: PostgresServer, proxy: Proxy, open_adapter: OpenAdapter, schema: str
) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter, open_adapter() as other:
        await asyncio.gather(adapter.set("s", "n", b"1"), adapter.set("s", "lost", b"1"))
        await other.set("s", "lost", b"5")
        before = server.revisions(schema)
        proxy.swallow()
        calls = [
            adapter.update("s", "n", bump),
            adapter.set("s", "over", b"1"),
            adapter.delete("s", "nothing"),
            adapter.update("s", "lost", bump),
        ]
        behind = adapter.update("s", "n", bump)
        await until(lambda: server.revisions(schema) > before)
        proxy.cut()
        counted, over, nothing, raced = await asyncio.gather(*calls)
        assert (counted.old, counted.new) == (b"1", b"2")
        assert (over.old, over.new) == (None, b"1")
        assert (nothing.old, nothing.new) == (None, None)
        assert (raced.old, raced.new) == (b"5", b"6")
        assert (await behind).new == b"3"
        assert await other.list("s") == [("n", b"3"), ("lost", b"6"), ("over", b"1")]


async def test_the_very_first_write_may_be_cut_too(proxy: Proxy, open_adapter: OpenAdapter) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter:
        answers = proxy.answers
        proxy.swallow()
        call = adapter.set("s", "k", b"1")
        await until(lambda: proxy.answers > answers)
        proxy.cut()
        assert (await call).new == b"1"
        assert len(await adapter.keys("s")) == 1


async def test_a_host_whose_row_is_gone_says_that_it_cannot_know(
    server: PostgresServer, proxy: Proxy, open_adapter: OpenAdapter, schema: str
) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter:
        await adapter.set("s", "k", b"1")
        before = server.revisions(schema)
        proxy.swallow()
        call = adapter.set("s", "k", b"2")
        await until(lambda: server.revisions(schema) > before)
        server.sql(f"DELETE FROM {schema}.writer")
        proxy.cut()
        assert FATE in (await outcome(call)).message
        assert (await adapter.set("s", "k", b"3")).old == b"2"


async def test_a_request_that_never_arrives_is_sent_again(proxy: Proxy, open_adapter: OpenAdapter) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    # That it never arrived is seen when it is overdue; what is sent again has as much time.
    async with open_adapter(database_url=url, timeout=3.0) as adapter:
        await until(lambda: written(adapter, b"1", key="n"))
        proxy.lose()
        assert (await adapter.update("s", "n", bump)).new == b"2"
        await until(lambda: works(adapter))
        async with open_adapter() as other:
            assert await other.get("s", "n") == b"2"


async def test_a_late_statement_of_a_lost_connection_is_not_done_after_later_ones(
    server: PostgresServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=0.5) as adapter, open_adapter() as other:
        await until(lambda: written(adapter, b"1"))
        program = await connection(server)
        locked = program.transaction()
        await locked.start()
        # The batch waits for the bucket's lock until the adapter has given it up.
        schema = adapter.config.schema
        await program.execute(f"SELECT * FROM {schema}.bucket FOR UPDATE")
        error = await outcome(adapter.set("s", "k", b"7"))
        assert "nothing was changed" in error.message or FATE in error.message
        later = asyncio.ensure_future(until(lambda: written(adapter, b"9")))
        await asyncio.sleep(0)
        await locked.rollback()
        await later
        # Nothing of it is left on the server either.
        await until(lambda: idle(server))
        assert await other.get("s", "k") == b"9"
        last = f"SELECT convert_from(new, 'UTF8') FROM {schema}.change ORDER BY bucket, revision DESC LIMIT 1"
        assert server.sql(last) == [["9"]]
        await program.close()


async def written(adapter: PostgresAdapter, value: bytes, *, key: str = "k") -> bool:
    """True when the write is acknowledged."""
    try:
        await adapter.set("s", key, value)
    except AdapterError:
        return False
    return True


def idle(server: PostgresServer) -> bool:
    """True when no statement of an adapter runs."""
    running = "application_name = 'iii-skill' AND state = 'active'"
    return server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {running}") == [["0"]]


async def test_a_slow_network_is_only_slow(proxy: Proxy, open_adapter: OpenAdapter) -> None:
    url = f"postgresql://test@127.0.0.1:{proxy.port}/postgres"
    async with open_adapter(database_url=url) as adapter:
        proxy.delay(0.1)
        counted = await asyncio.gather(*(adapter.update("s", "n", bump) for _ in range(100)))
        assert [change.new for change in counted] == [b"%d" % number for number in range(1, 101)]
        proxy.delay(0)


async def test_a_server_that_falls_silent_is_answered_for_in_time_and_recovers(
    server: PostgresServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=0.5) as adapter, open_adapter() as other:
        await until(lambda: written(adapter, b"1"))
        await until(lambda: works(adapter))
        server.signal(signal.SIGSTOP)
        write, update, read = (
            adapter.set("s", "k", b"2"),
            adapter.update("s", "o", bump),
            adapter.get("s", "f"),
        )
        listing = asyncio.ensure_future(adapter.list("s"))
        error = await outcome(write)
        assert isinstance(error, AdapterTimeout)
        assert FATE in error.message
        for call in (update, read, listing):
            await outcome(call)
        server.signal(signal.SIGCONT)
        await until(lambda: works(adapter))
        assert await other.get("s", "k") in (b"1", b"2")


async def test_a_server_that_becomes_read_only_refuses_writes_and_is_followed_back(
    server: PostgresServer, open_adapter: OpenAdapter
) -> None:
    async with open_adapter() as adapter:
        await adapter.set("s", "k", b"1")
        server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        server.sql("SELECT pg_reload_conf()")
        try:
            await until(lambda: refused(adapter, "read-only"))
            assert await adapter.get("s", "k") == b"1"
        finally:
            server.sql("ALTER SYSTEM RESET default_transaction_read_only", writing=True)
            server.sql("SELECT pg_reload_conf()")
        await until(lambda: works(adapter))


async def refused(adapter: PostgresAdapter, words: str) -> bool:
    """True when a write is refused with these words."""
    try:
        await adapter.set("probe", "k", b"1")
    except AdapterUnavailable as error:
        return words in error.message
    return False


async def test_a_synchronous_standby_takes_over_with_all_that_was_acknowledged() -> None:
    from iii_state_postgres import PostgresConfig

    with contextlib.ExitStack() as stack:
        primary = PostgresServer("synchronous_standby_names=standby", "wal_level=replica")
        stack.callback(primary.stop)
        primary.create().start(wait=True)
        standby = PostgresServer()
        stack.callback(standby.stop)
        standby.copy_of(primary).start()
        url = f"postgresql://test@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        adapter = PostgresAdapter()
        try:
            await adapter.open(PostgresConfig(database_url=url))
            counting = Counting(adapter)
            await until(lambda: counting.acknowledged >= 200)
            primary.kill()
            standby.sql("SELECT pg_promote()")
            before = counting.acknowledged
            await until(lambda: counting.acknowledged >= before + 200)
            total = await counting.end()
            assert counting.acknowledged <= total <= counting.acknowledged + counting.unknown
        finally:
            await adapter.close()


async def test_serialization_failures_and_deadlocks_are_run_again(
    server: PostgresServer, adapter: PostgresAdapter, schema: str
) -> None:
    await adapter.set("s", "k", b"1")
    server.sql(
        f"CREATE SEQUENCE {schema}.attempts; "
        f"CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('{schema}.attempts') % 3 = 1 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF; "
        f"IF currval('{schema}.attempts') % 3 = 2 THEN RAISE EXCEPTION USING ERRCODE = '40P01'; END IF; "
        f"RETURN NEW; END $$; "
        f"CREATE TRIGGER fail BEFORE INSERT ON {schema}.change FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
    )
    assert (await adapter.update("s", "k", bump)).new == b"2"
    server.sql(f"DROP SEQUENCE {schema}.attempts CASCADE; CREATE SEQUENCE {schema}.attempts INCREMENT 3")
    error = await outcome(adapter.update("s", "k", bump))
    assert isinstance(error, AdapterUnavailable)
    assert "too much is changed at once" in error.message
    server.sql(f"DROP TRIGGER fail ON {schema}.change")
    assert (await adapter.update("s", "k", bump)).new == b"3"


@pytest.fixture
def full_disk() -> Iterator[Path]:
    """A directory on a disk of 3 MB that belongs to the server."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = Path(tempfile.mkdtemp(prefix="iii-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small disk cannot be mounted here")
        place.chmod(0o755)
        space = place / "space"
        space.mkdir()
        shutil.chown(space, owner())
        try:
            yield space
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    finally:
        place.rmdir()


async def test_a_full_disk_refuses_writes_changes_nothing_and_takes_deletes(
    full_disk: Path, open_adapter: OpenAdapter, schema: str
) -> None:
    with postgres_server() as server:
        server.sql(f"CREATE TABLESPACE small LOCATION '{full_disk}'")
        async with open_adapter(database_url=server.url) as adapter:
            server.sql(f"ALTER TABLE {schema}.entry SET TABLESPACE small")
            written = 0
            error: AdapterError | None = None
            while error is None:
                try:
                    await adapter.set("s", f"k{written}", b'"' + os.urandom(50_000).hex().encode() + b'"')
                    written += 1
                except AdapterError as refusal:
                    error = refusal
            assert "its disk is full; nothing was changed" in error.message
            assert len(await adapter.keys("s")) == written
            await adapter.delete("s", "k0")
            assert len(await adapter.keys("s")) == written - 1
            server.sql("DROP TABLE IF EXISTS none; SELECT pg_reload_conf()")


async def test_a_wrong_password_is_refused_and_never_shown(open_adapter: OpenAdapter) -> None:
    with postgres_server() as server:
        server.sql("CREATE ROLE app LOGIN PASSWORD 'right'; GRANT CREATE ON DATABASE postgres TO app")
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"host all app 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        server.sql("SELECT pg_reload_conf()")
        url = f"postgresql://app:%s@127.0.0.1:{server.port}/postgres"
        await until(lambda: asks_for_a_password(url % "none"))
        with pytest.raises(StoreRefused, match="the user or password is wrong") as caught:
            async with open_adapter(database_url=url % "wrong1"):
                pass
        assert "wrong1" not in str(caught.value)
        async with open_adapter(database_url=url % "right") as adapter:
            assert await works(adapter)


async def asks_for_a_password(url: str) -> bool:
    """True once the new rules are in force: the file has them before the server."""
    try:
        program = await asyncpg.connect(url)
    except asyncpg.InvalidPasswordError:
        return True
    await program.close()
    return False


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "database_url"),
        ("postgresql://127.0.0.1:{port}/nowhere", "no such database"),
        ("postgresql://test@127.0.0.1:{port}/postgres?sslmode=nonsense", "database_url"),
        ("postgresql://test@127.0.0.1:x/postgres", "database_url"),
        ("", "DATABASE_URL"),
    ],
)
async def test_an_url_that_cannot_be_used_is_refused(
    url: str, words: str, server: PostgresServer, open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PGUSER", "test")
    with pytest.raises(StoreRefused, match=words):
        async with open_adapter(database_url=url.format(port=server.port)):
            pass


async def test_the_environment_names_the_database(
    server: PostgresServer, open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.url)
    async with open_adapter(database_url="") as adapter:
        assert await works(adapter)


async def test_missing_rights_are_named(
    server: PostgresServer, open_adapter: OpenAdapter, schema: str
) -> None:
    server.sql("CREATE ROLE poor LOGIN")
    url = f"postgresql://poor@127.0.0.1:{server.port}/postgres"
    with pytest.raises(StoreRefused, match="permission denied for database"):
        async with open_adapter(database_url=url):
            pass
    async with open_adapter():
        pass
    server.sql(f"GRANT USAGE ON SCHEMA {schema} TO poor; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO poor")
    async with open_adapter(database_url=url) as adapter:
        assert await works(adapter)
        server.sql(f"REVOKE INSERT ON {schema}.change FROM poor")
        error = await outcome(adapter.set("s", "k", b"1"))
        assert "lacks a right (permission denied for table change)" in error.message
        assert await adapter.get("s", "k") is None
        server.sql(f"REVOKE SELECT ON {schema}.entry FROM poor")
        assert (
            "lacks a right (permission denied for table entry)" in (await outcome(adapter.list("s"))).message
        )


async def test_a_host_whose_schema_a_newer_one_has_changed_says_so(
    server: PostgresServer, schema: str, adapter: PostgresAdapter
) -> None:
    await adapter.set("s", "k", b"1")
    server.sql(f"ALTER FUNCTION {schema}.write RENAME TO write_of_tomorrow")
    error = await outcome(adapter.set("s", "k", b"2"))
    assert "a host of a newer version has changed its layout; restart this one" in error.message
    assert await adapter.get("s", "k") == b"1"
    server.sql(f"ALTER FUNCTION {schema}.write_of_tomorrow RENAME TO write")
    assert (await adapter.set("s", "k", b"2")).old == b"1"


async def test_a_server_that_does_not_flush_is_refused(open_adapter: OpenAdapter) -> None:
    with postgres_server("fsync=off") as server, pytest.raises(StoreRefused, match="fsync = off"):
        async with open_adapter(database_url=server.url):
            pass


@pytest.mark.parametrize(
    ("default", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
async def test_a_write_waits_for_its_flush_whatever_the_default_is(
    default: str, used: str, server: PostgresServer, open_adapter: OpenAdapter, schema: str
) -> None:
    server.sql(f"ALTER ROLE test SET synchronous_commit = {default}")
    try:
        async with open_adapter() as adapter:
            server.sql(
                f"CREATE TABLE {schema}.used (setting text); "
                f"CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"INSERT INTO {schema}.used VALUES (current_setting('synchronous_commit')); "
                f"RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER note AFTER INSERT ON {schema}.change "
                f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.note()"
            )
            await adapter.set("s", "k", b"1")
            # Deferred: it was run by the commit.
            assert server.sql(f"SELECT DISTINCT setting FROM {schema}.used") == [[used]]
    finally:
        server.sql("ALTER ROLE test RESET synchronous_commit")


async def test_a_value_that_another_program_broke_harms_itself_only(
    server: PostgresServer, adapter: PostgresAdapter, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(adapter.set("s", "fine", b"1"), adapter.set("s", "bad", b"1"))
    server.sql(f"UPDATE {schema}.entry SET value = 'no json' WHERE key = 'bad'")
    assert await adapter.list("s") == [("fine", b"1")]
    assert "'bad'" in caplog.text
    for call in (adapter.get("s", "bad"), adapter.update("s", "bad", bump)):
        assert "no JSON" in (await outcome(call)).message
    done = await adapter.set("s", "bad", b"2")
    assert (done.old, done.new) == (b"null", b"2")
    assert (await adapter.update("s", "bad", bump)).new == b"3"


async def test_a_value_that_another_program_changed_is_the_one_that_counts(
    server: PostgresServer, adapter: PostgresAdapter, schema: str
) -> None:
    await adapter.set("s", "n", b"1")
    server.sql(f"UPDATE {schema}.entry SET value = '41'")
    assert (await adapter.update("s", "n", bump)).new == b"42"


async def test_a_host_that_was_forgotten_makes_itself_known_again(
    server: PostgresServer, adapter: PostgresAdapter, schema: str
) -> None:
    await adapter.set("s", "k", b"1")
    server.sql(f"DELETE FROM {schema}.writer")
    assert (await adapter.set("s", "k", b"2")).old == b"1"


async def test_closing_does_not_wait_for_a_silent_server(
    server: PostgresServer, open_adapter: OpenAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(60), open_adapter(timeout=600.0) as adapter:
        await adapter.set("s", "k", b"1")
        server.signal(signal.SIGSTOP)
        calls = [adapter.set("s", "k", b"2"), adapter.get("s", "free")]
        await asyncio.sleep(0)
    server.signal(signal.SIGCONT)
    assert "did not answer all calls before the adapter closed" in caplog.text
    for call in calls:
        assert isinstance(await outcome(call), AdapterError)
