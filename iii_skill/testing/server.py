"""ServerProcess: a real server for tests, on a free port with its own directory, to be killed and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from iii_skill.testing.proxy import Proxy

START_SECONDS = 30.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """Runs `command(port, directory)`; as a context manager it leaves neither process nor directory.

    It is up when `ready(port)` is true; by itself that is when the port accepts a connection.
    """

    def __init__(
        self,
        command: Callable[[int, Path], Sequence[str]],
        *,
        port: int | None = None,
        ready: Callable[[int], bool] | None = None,
        seconds: float = START_SECONDS,
    ) -> None:
        self.port = free_port() if port is None else port
        self.directory = Path(tempfile.mkdtemp(prefix="iii-server-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._ready = ready or _accepts
        self._seconds = seconds

    def __enter__(self) -> ServerProcess:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None, "The server is not running."
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.directory / "server.log").read_text(errors="replace")

    def start(self) -> ServerProcess:
        """Start it (again, with the same port and directory) and wait until it is ready."""
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                list(self._command(self.port, self.directory)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + self._seconds
        while not self._ready(self.port):
            assert self.process.poll() is None, f"The server ended by itself: {self.log[-2000:]}"
            assert time.monotonic() < end, (
                f"The server is not ready after {self._seconds:g} s: {self.log[-2000:]}"
            )
            time.sleep(0.01)
        return self

    def proxy(self, *, seconds: float | None = None) -> Proxy:
        """A proxy in front of it."""
        return Proxy("127.0.0.1", self.port, seconds=seconds)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; the directory stays for the next `start`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
