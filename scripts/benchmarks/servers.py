"""What is measured: host processes, and yardstick servers on the same libraries without state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server process."""

    process: subprocess.Popen[str]
    ws: str
    http: str | None
    ready_s: float
    stream: str | None = None
    """Where clients subscribe to streams."""
    console: str | None = None
    """The address of the console, with its token."""

    def cpu_seconds(self) -> float:
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def started(command: list[str], *, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server that prints one ready line of JSON; `env` is added to the environment."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(command)} ended with {process.wait()}")
        ready = json.loads(line)
        seconds = time.perf_counter() - begin
        stream = ready.get("companions", {}).get("iii-stream", {}).get("url")
        yield Server(process, ready.get("ws", ""), ready.get("http"), seconds, stream, ready.get("console"))
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def host(*options: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Our host on free ports."""
    base = [sys.executable, "-m", "iii_skill", "serve", "--port", "0", "--http-port", "0", "--ready-json"]
    with started([*base, "--log-level", "error", *options], env=env) as server:
        yield server


@contextmanager
def file_host(*, settings: str = "") -> Iterator[Server]:
    """The host on the durable file store, in a directory on the working disk; `settings` in YAML."""
    with tempfile.TemporaryDirectory(dir=".", prefix=".bench-") as data:
        config = Path(data) / "iii-config.yaml"
        adapter = f"{{name: file, config: {{data_dir: {data}/store{settings and ', ' + settings}}}}}"
        config.write_text(f"workers:\n  - name: iii-state\n    config: {{adapter: {adapter}}}\n")
        with host("--config", str(config)) as server:
            yield server


@contextmanager
def echo(*options: str) -> Iterator[Server]:
    """The ceiling: the same libraries, decode and answer, no engine and no state."""
    with started([sys.executable, "-m", "benchmarks.echo", *options]) as server:
        yield server


def fsync_seconds(directory: Path, count: int = 200) -> float:
    """Median of appending 4 KiB and flushing it to the disk."""
    times = []
    with (directory / "fsync.probe").open("wb") as file:
        for _ in range(count):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    (directory / "fsync.probe").unlink()
    return sorted(times)[count // 2]
