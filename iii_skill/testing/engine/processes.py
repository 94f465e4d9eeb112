"""A worker in a process of its own, with its output, and whether it has anything to do."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

STOP_SECONDS = 10.0
_TAIL = 64 * 1024

_RUNNERS: Mapping[str, tuple[str, ...]] = {
    ".py": (sys.executable,),
    ".js": ("node",),
    ".mjs": ("node",),
    ".cjs": ("node",),
    ".ts": ("npx", "--no-install", "tsx"),
    ".mts": ("npx", "--no-install", "tsx"),
}


def command_of(target: str | Path | Sequence[str], places: Sequence[Path]) -> list[str]:
    """The command for a program file, a folder with a Cargo.toml, a command line, or a command as it is.

    Files are looked for in `places`, in this order.
    """
    if not isinstance(target, str | Path):
        return [str(part) for part in target]
    for place in places:
        path = place / target
        if path.is_dir() and (path / "Cargo.toml").exists():
            return ["cargo", "run", "--quiet", "--manifest-path", str(path / "Cargo.toml")]
        if path.is_file():
            return [*_RUNNERS.get(path.suffix, ()), str(path)]
    words = shlex.split(str(target))
    if len(words) == 1 and Path(words[0]).suffix in _RUNNERS:
        looked = ", ".join(dict.fromkeys(map(str, places)))
        raise FileNotFoundError(f"There is no worker {words[0]} in {looked}.")
    return words


def environment_of(engine: Mapping[str, str], own: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of a worker: this process's, what leads to the engine, and its own on top."""
    return {**os.environ, "OTEL_ENABLED": "false", "PYTHONUNBUFFERED": "1", **engine, **(own or {})}


class WatchedProgram(Protocol):
    """A program whose worker an engine waits for."""

    @property
    def fate(self) -> str | None:
        """How it ended; None while it runs."""

    @property
    def idle(self) -> bool | None:
        """True when none of its threads wants the processor; None where the system does not say."""

    @property
    def output(self) -> str | None:
        """What it has written; None when somebody else reads that."""


class ForeignProcess:
    """A running program that another process has started."""

    output = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._began = _began(pid)

    def end(self) -> None:
        """SIGKILL to it and its group; not when another process has its id by now, or started this one."""
        if self._began is None or self._began != _began(self.pid) or self.pid in _above():
            return
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    @property
    def fate(self) -> str | None:
        """How it ended; None while it runs."""
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return "ended"
        except PermissionError:
            return None
        with suppress(OSError):
            # Nobody has asked yet what it ended with.
            if _state(Path(f"/proc/{self.pid}")) in b"ZX":
                return "ended"
        return None

    @property
    def idle(self) -> bool | None:
        """True when none of its threads wants the processor; None where the system does not say."""
        return _asleep(self.pid)


class WorkerProcess:
    """A running program; it and what it started end together."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self.command = list(command)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._said = ""
        try:
            self.process = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            self._output.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    @property
    def fate(self) -> str | None:
        """How it ended; None while it runs."""
        return None if self.ended is None else f"ended with exit code {self.ended}"

    @property
    def output(self) -> str:
        """What it has written to stdout and stderr, at most the last 64 KiB."""
        if self._output.closed:
            return self._said
        size = os.fstat(self._output.fileno()).st_size
        start = max(0, size - _TAIL)
        return os.pread(self._output.fileno(), size - start, start).decode("utf-8", "replace")

    @property
    def idle(self) -> bool | None:
        """True when none of its threads wants the processor; None where the system does not say."""
        return _asleep(self.pid)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, *, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL after `seconds`; the exit code. Safe to call twice."""
        if self.ended is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        # Also what it left behind.
        self._signal(signal.SIGKILL)
        code = self.process.wait()
        if not self._output.closed:
            self._said = self.output
            self._output.close()
        return code

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _asleep(pid: int) -> bool | None:
    """Whether all threads of a process and of its children sleep."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        threads = list(tasks.iterdir())
    except OSError:
        return None
    for thread in threads:
        try:
            state = _state(thread)
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        if state not in b"SZXT" or any(_asleep(int(child)) is False for child in children):
            return False
    return True


def _state(process: Path) -> bytes:
    """The letter that says what a process or thread does now."""
    # After the name in parentheses, which may hold anything.
    return (process / "stat").read_bytes().rpartition(b") ")[2][:1]


def _above() -> set[int]:
    """This process and those that it was started by."""
    found, pid = set[int](), os.getpid()
    while pid and pid not in found:
        found.add(pid)
        pid = int((_stat(pid) or [b"", b"0"])[1])
    return found


def _began(pid: int) -> bytes | None:
    """When a process began, as the system counts; None where it does not say."""
    fields = _stat(pid)
    return None if fields is None else fields[19]


def _stat(pid: int) -> list[bytes] | None:
    """What the system says of a process, from its state on; None where it says nothing."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        return fields if len(fields) > 19 else None
    return None
