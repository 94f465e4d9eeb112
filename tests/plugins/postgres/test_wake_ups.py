"""Who follows the log is woken: by its own host at once, by others with a notice outside of the commit."""

from __future__ import annotations

import asyncio

import pytest
from iii_state_postgres import PostgresAdapter, PostgresConfig, session
from iii_state_postgres.bucket_log import BucketLog
from iii_state_postgres.session import Session
from iii_state_postgres.statements import Statements
from support.postgres import PostgresServer, connection
from support.redis import until

from iii_skill.values import Change

from .conftest import OpenAdapter


async def test_a_commit_holds_up_no_commit_of_another_bucket(
    server: PostgresServer, schema: str, open_adapter: OpenAdapter
) -> None:
    async with open_adapter(timeout=600.0) as adapter:
        await adapter.set("s", "k", b"1")
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        server.sql("SELECT pg_reload_conf()")
        try:
            written = asyncio.ensure_future(_set(adapter))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%write(%'"
            )

            async def waits() -> bool:
                nonlocal written
                if written.done():
                    # The server had not taken notice of the setting yet.
                    written = asyncio.ensure_future(_set(adapter))
                await asyncio.sleep(0)
                return server.sql(waiting) == [["1"]]

            await until(waits)
            # Its commit waits for a standby. What notifies is not in its way: no host's commit is.
            other = await connection(server)
            async with asyncio.timeout(30):
                await other.execute("SET synchronous_commit = local; NOTIFY other")
            await other.close()
        finally:
            server.sql("ALTER SYSTEM RESET synchronous_standby_names")
            server.sql("SELECT pg_reload_conf()")
        assert (await written).new == b"2"


async def _set(adapter: PostgresAdapter) -> Change:
    return await adapter.set("s", "k", b"2")


async def test_own_changes_are_followed_without_a_notice_and_those_of_others_with_one(
    open_adapter: OpenAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LOOK_AGAIN", 1_000.0)
    async with open_adapter() as adapter, open_adapter() as other, asyncio.timeout(60):
        changes, others = adapter.changes(), other.changes()
        followers = (*changes.followers, *others.followers)
        await until(lambda: all(follower.position is not None for follower in followers))
        for number in range(20):
            # Also those that come while a notice is due already.
            made = await adapter.set("s", "k", b"%d" % number)
            assert await anext(changes) == made
            assert await anext(others) == made
        monkeypatch.setattr(adapter, "_notify", lambda _channels: asyncio.sleep(0))
        made = await adapter.set("s", "k", b"20")
        assert await anext(changes) == made


async def test_what_is_heard_of_while_the_log_is_read_is_looked_at(
    server: PostgresServer, schema: str, adapter: PostgresAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PostgresConfig(database_url=server.url, schema=schema)
    log = BucketLog(config, Statements.of(schema), "It")
    own = await Session.connect(config, server.url, "It")
    monkeypatch.setattr(session, "LOOK_AGAIN", 1_000.0)
    try:
        position = await log.newest(own)
        # The first wait only begins to listen.
        await log.changed(own)
        changes, position = await log.changes_after(own, position)
        assert not changes
        made = await adapter.set("s", "k", b"1")
        # Its notice comes before the wait for it.
        own._heard()
        async with asyncio.timeout(60):
            await log.changed(own)
        assert (await log.changes_after(own, position))[0] == [made]
    finally:
        await own.close()
