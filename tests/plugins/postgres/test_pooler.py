"""Behind PgBouncer in transaction mode: no statement keeps its connection."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from iii_state_postgres import PostgresAdapter, PostgresConfig
from support import postgres
from support.postgres import PostgresServer, owner
from support.redis import until

from iii_skill.errors import StoreRefused
from iii_skill.testing import Check, Subject, checks_for, run_check
from iii_skill.testing.server import ServerProcess

from .conftest import OpenAdapter

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


class Pooler(ServerProcess):
    """A PgBouncer with three connections to the server."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(self._start)
        self._server = server

    @property
    def url(self) -> str:
        """What `database_url` takes."""
        return f"postgresql://test@127.0.0.1:{self.port}/postgres"

    def _start(self, port: int, directory: Path) -> list[str]:
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={self._server.port} user=test\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = 3\nunix_socket_dir = {directory}\n"
        )
        if (name := owner()) is None:
            return [str(PROGRAM), str(settings)]
        shutil.chown(directory, name)
        return [str(PROGRAM), "--user", name, str(settings)]


@pytest.fixture(scope="module")
def pooler() -> Iterator[Pooler]:
    """A pooler in front of the shared server."""
    with Pooler(postgres.shared()) as pooler:
        yield pooler


GROUPS = {"basics", "ordering", "concurrency", "sharing", "lifecycle"}
"""Those that a pooler could spoil: names and values go the same way with and without one."""


@pytest.mark.parametrize(
    "check",
    [check for check in checks_for(PostgresAdapter) if check.group in GROUPS],
    ids=lambda check: check.name,
)
def test_the_kit_passes_behind_a_pooler(check: Check, pooler: Pooler, tmp_path: Path) -> None:
    def fresh(_place: Path) -> dict[str, object]:
        return {**postgres.settings(), "database_url": pooler.url, "pooler": True}

    run_check(check, Subject(PostgresAdapter, fresh(tmp_path), tmp_path, fresh=fresh))


async def test_what_other_hosts_write_without_the_pooler_is_followed_through_it(
    pooler: Pooler, open_adapter: OpenAdapter
) -> None:
    direct = postgres.shared().url
    async with (
        open_adapter(database_url=pooler.url, pooler=True) as here,
        open_adapter(database_url=direct) as there,
    ):
        changes = here.changes()
        # What others write counts once this host knows where the log ended.
        begun = await here.set("s", "begin", b"0")
        assert await anext(changes) == begun
        made = [await there.set("s", "k", b"%d" % number) for number in range(5)]
        async with asyncio.timeout(60):
            assert [await anext(changes) for _ in made] == made


async def test_a_pooler_that_is_restarted_loses_nothing(pooler: Pooler, open_adapter: OpenAdapter) -> None:
    async with open_adapter(database_url=pooler.url, pooler=True) as adapter:
        done = 0

        async def add() -> None:
            nonlocal done
            while done < 200:
                try:
                    await adapter.update("s", "n", lambda old: b"%d" % (int(old or 0) + 1))
                except Exception:
                    await asyncio.sleep(0.02)
                else:
                    done += 1

        adding = asyncio.ensure_future(add())
        await until(lambda: done >= 50)
        pooler.kill()
        pooler.start()
        await adding
        assert int(await adapter.get("s", "n") or 0) >= 200


async def test_a_pooler_that_is_not_named_is_told_of(pooler: Pooler) -> None:
    adapter = PostgresAdapter()
    with pytest.raises(StoreRefused, match="set pooler=true"):
        await adapter.open(PostgresConfig(database_url=pooler.url, schema="unnamed"))
    await adapter.close()
