"""ServerProcess: a real server for tests, on a free port with its own directory, to be killed and stopped."""

from __future__ import annotations

import contextlib
import errno
import os
import random
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


_PORTS = range(10_000, 32_000)
"""Below those from which systems take the port of an outgoing connection: whoever dials a server that is
down for a moment cannot take its port."""
_handed_out: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on, for a server that is told its port when it starts.

    Between this call and the server's start nobody else gets it: neither a later call, nor, for a minute, a
    call of another process. OSError: in 1,000 tries there was none.
    """
    for _ in range(1_000):
        port = random.choice(_PORTS)
        if port not in _handed_out and reserve(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no port of 127.0.0.1 from {_PORTS.start} to {_PORTS.stop} is free")


def reserve(port: int) -> bool:
    """Keep a port for a server that is about to start; False when it is in use or another's.

    A connection is opened there and ended from the listening side. The system then remembers the port for a
    minute: servers, which set SO_REUSEADDR, may listen there, and who looks for a free port finds it taken.
    """
    with socket.socket() as listening:
        try:
            listening.bind(("127.0.0.1", port))
            # Only now: it is not for this bind, but lets the server share what the system remembers.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.listen(1)
        except OSError:
            return False
        with socket.create_connection(("127.0.0.1", port), START_SECONDS) as dialling:
            listening.accept()[0].close()
            dialling.recv(1)
    if len(_handed_out) > len(_PORTS) // 2:
        _handed_out.clear()
    _handed_out.add(port)
    return True


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
        """SIGSTOP: connections stay open and nothing answers. It has stopped when this returns."""
        os.kill(self.pid, signal.SIGSTOP)
        while not stands_still(self.pid):
            time.sleep(0.001)

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


def stands_still(pid: int) -> bool:
    """True when a process has stopped, or is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except FileNotFoundError:  # It is gone, or this is no Linux.
        command = ["ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] in ("", "T", "t", "Z")


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
