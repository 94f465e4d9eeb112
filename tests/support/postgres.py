"""A real PostgreSQL for tests: a throw-away cluster on a free port, run by an unprivileged user.

`shared()` is one server for the whole test process, `settings()` an empty corner of it (a schema of its own).
Tests that break their server start their own with `postgres_server()`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from iii_skill.testing.server import free_port

START_SECONDS = 60.0
UNPRIVILEGED = ("postgres", "nobody")


@functools.cache
def binaries() -> Path:
    """The directory of the server's programs, or a failure that says what to install."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    assert found or on_path, "PostgreSQL is missing: apt-get install postgresql"
    return found[-1].parent if found else Path(str(on_path)).parent


@functools.cache
def owner() -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in names)


def run(*command: str, **more: Any) -> None:
    """Run a program as that user; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, user=owner(), cwd="/", check=False, **more)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"


class PostgresServer:
    """One cluster with its directory; superuser `test` without a password, user `app` with one."""

    def __init__(self, *settings: str) -> None:
        self.settings = settings
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="iii-postgres-"))
        self.data = self.directory / "data"
        self.process: subprocess.Popen[bytes] | None = None
        if (name := owner()) is not None:
            shutil.chown(self.directory, name)

    @property
    def url(self) -> str:
        """What `database_url` takes."""
        return f"postgresql://test@127.0.0.1:{self.port}/postgres"

    def create(self) -> PostgresServer:
        """Make an empty cluster."""
        run(
            str(binaries() / "initdb"),
            *("--pgdata", str(self.data), "--username", "test", "--auth", "trust", "--no-sync"),
            *("--encoding", "UTF8", "--locale", "C"),
        )
        return self

    def copy_of(self, other: PostgresServer) -> PostgresServer:
        """Make a standby of another one."""
        run(
            str(binaries() / "pg_basebackup"),
            *("--pgdata", str(self.data), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync"),
            *("--dbname", f"host=127.0.0.1 port={other.port} user=test application_name=standby"),
        )
        return self

    def start(self, *, wait: bool = True) -> PostgresServer:
        """Start it (again, with the same port and directory) and wait until it answers."""
        settings = [part for setting in self.settings for part in ("-c", setting)]
        command = [str(binaries() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-k", str(self.directory), *settings]
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=owner(), cwd="/")
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Wait until it answers a query."""
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(Exception):
                self.sql("SELECT 1")
                return
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < end, (self.directory / "server.log").read_text()[-2000:]
            time.sleep(0.02)

    def revisions(self, schema: str) -> int:
        """How many changes are committed in a schema of the adapter."""
        ((count,),) = self.sql(f"SELECT sum(revision) FROM {schema}.bucket")
        return int(count)

    def sql(self, statement: str, *, writing: bool = False) -> list[list[str]]:
        """Run a statement on a connection of its own, as another program would; its rows. `writing`: also
        where the default is read-only."""
        command = [str(binaries() / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--quiet"]
        command += ["--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--username", "test", "--dbname", "postgres", "--command", statement]
        options = {"PGOPTIONS": "-c default_transaction_read_only=off"} if writing else {}
        done = subprocess.run(
            command, env={**os.environ, **options}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [line.split("|") for line in done.stdout.splitlines()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        assert self.process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        for pid in (self.process.pid, *map(int, children.stdout.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to the server; the directory stays for the next `start`."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def shut_down(self) -> None:
        """The fast shutdown of `pg_ctl stop`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def postgres_server(*settings: str) -> Iterator[PostgresServer]:
    """A running server for the length of the block."""
    server = PostgresServer(*settings)
    try:
        yield server.create().start()
    finally:
        server.stop()


@functools.cache
def shared() -> PostgresServer:
    """The server of this test process; it ends with the process."""
    server = PostgresServer()
    atexit.register(server.stop)
    return server.create().start()


_numbers = itertools.count()


def settings() -> dict[str, str]:
    """The settings of the adapter `postgres` for an empty corner of the shared server."""
    return {"database_url": shared().url, "schema": f"t{next(_numbers)}"}


async def connection(server: PostgresServer) -> Any:
    """A plain connection: what another program does to the database."""
    return await asyncio.wait_for(asyncpg.connect(server.url), 10)
