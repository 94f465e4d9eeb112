"""A host as users run it: `iii-skill serve` in a process of its own, which tests stop, kill and restart."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iii_skill.testing.server import free_port

WAIT_S = 60.0
"""Seconds for what only the load of the machine makes long: it ends a test that would wait for ever."""


class HostFailed(Exception):
    """The host ended before it was ready; holds its exit code and what it wrote to stderr."""

    def __init__(self, code: int | None, stderr: str) -> None:
        super().__init__(f"exit code {code}: {stderr}")
        self.code = code
        self.stderr = stderr


class HostProcess:
    """One `iii-skill serve`. `restart` keeps the ports, so that workers find the host again."""

    def __init__(
        self, directory: Path, *args: str, env: Mapping[str, str] | None = None, ports: bool = True
    ) -> None:
        self.directory = directory
        self.args: Sequence[str] = args
        self.env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.ready: dict[str, Any] = {}
        self._ports = ["--port", str(free_port()), "--http-port", str(free_port())] if ports else []
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "host.log"

    def start(self) -> HostProcess:
        """Start it and wait for its ready line; HostFailed when it ends before."""
        command = [sys.executable, "-m", "iii_skill", "serve", "--ready-json", *self._ports, *self.args]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=self.env, stdout=subprocess.PIPE, stderr=log
            )
        line = self._line(WAIT_S)
        if not line:
            code = self.stop(signal.SIGKILL) if self._process.poll() is None else self._process.returncode
            self._close()
            raise HostFailed(code, self.stderr)
        self.ready = json.loads(line)
        return self

    @property
    def ws(self) -> str:
        """Where workers connect."""
        return str(self.ready["ws"])

    @property
    def http(self) -> str:
        """Where HTTP clients connect."""
        return str(self.ready["http"])

    @property
    def pid(self) -> int:
        """The process id."""
        return int(self.ready["pid"])

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None, "the host was not started"
        return self._process

    @property
    def stderr(self) -> str:
        """Everything that it has written to stderr, over all restarts."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def complaints(self) -> list[str]:
        """Its warnings and errors, but for iii-stream's default port, which a neighbour may hold."""
        lines = [line for line in self.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
        return [line for line in lines if "The host goes on without it." not in line]

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = WAIT_S) -> int:
        """Send a signal and wait for the end; the exit code (negative: the signal that ended it)."""
        self.process.send_signal(number)
        code = self.process.wait(timeout)
        self._close()
        return code

    def sigterm(self) -> int:
        """Ask it to stop; the exit code."""
        return self.stop(signal.SIGTERM)

    def sigkill(self) -> int:
        """End it at once, in the middle of whatever it does."""
        return self.stop(signal.SIGKILL)

    def restart(self, number: signal.Signals = signal.SIGKILL) -> HostProcess:
        """End it with the signal and start it again on the same ports and data."""
        self.stop(number)
        return self.start()

    def kill(self) -> None:
        """End it if it still runs, and release everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(WAIT_S)
        self._close()

    def _line(self, timeout: float) -> bytes:
        """The first line of stdout; empty when it ended or the time is up."""
        stream = self.process.stdout
        assert stream is not None
        deadline = time.monotonic() + timeout
        found = b""
        while not found.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                return b""
            piece = os.read(stream.fileno(), 4096)
            if not piece:
                self.process.wait(WAIT_S)
                return b""
            found += piece
        return found

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def running_host(
    directory: Path, *args: str, env: Mapping[str, str] | None = None, ports: bool = True
) -> Iterator[HostProcess]:
    """A started host with `serve` options `args`; ended on leaving. Its working directory is `directory`.

    `ports=False` leaves `--port` and `--http-port` to `args` or the configuration file.
    """
    host = HostProcess(directory, *args, env=env, ports=ports)
    try:
        yield host.start()
    finally:
        host.kill()
