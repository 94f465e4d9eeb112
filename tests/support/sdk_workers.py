"""Which SDK versions are tested, and how the worker of each is started."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.sdk import link_node_modules, python_sdk, rust_binary, tool

WORKERS = Path(__file__).parents[1] / "sdk" / "workers"
WAIT_S = 60.0
"""Seconds for what only the load of the machine makes long: it ends a test that would wait for ever."""

SDKS = [
    "python-0.10.0",
    "python-0.23.0",
    "python-0.25.0",
    "node-0.2.1",
    "node-0.3.0",
    "node-0.9.0",
    "node-0.11.2",
    "node-0.22.1",
    "rust-0.25.0",
    "rust-0.26.0-rc.4",
]


class SdkWorker:
    """A running worker program and the JSON lines that it prints."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, key: str, *, timeout: float = WAIT_S) -> Any:
        """The value of `key` in the next printed line that has it."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no line with '{key}' in time:\n{self.log.read_text('utf-8')}"
                ) from None
            if key in line:
                return line[key]

    def says(self, text: str, *, timeout: float = WAIT_S) -> None:
        """Wait until its log holds the text."""
        deadline = time.monotonic() + timeout
        while not (self.log.exists() and text in self.log.read_text("utf-8")):
            assert time.monotonic() < deadline, f"the worker never said '{text}'"
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM, as a supervisor does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            with self.log.open("ab") as log:
                log.write(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                self._lines.put(line)


def command(sdk: str, directory: Path, program: str) -> list[str]:
    """The command that runs the program of `tests/sdk/workers`; what it needs is put into `directory`."""
    language, version = sdk.split("-", 1)
    if language == "python":
        return [str(python_sdk(version)), str(WORKERS / f"{program}.py")]
    if language == "node":
        link_node_modules(directory, version)
        shutil.copy(WORKERS / f"{program}.mjs", directory)
        return [tool("node"), str(directory / f"{program}.mjs")]
    source = f"{program}.rs" if version.startswith("0.25") else f"{program}_next.rs"
    return [str(rust_binary(version, WORKERS / source))]


@contextmanager
def running_worker(
    sdk: str, directory: Path, url: str, *, env: Mapping[str, str] | None = None, program: str = "worker"
) -> Iterator[SdkWorker]:
    """The worker of that SDK, connected to `url`; killed on leaving if it still runs.

    Its telemetry is off unless `env` says otherwise.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "worker.log"
    variables = {**os.environ, "III_URL": url, "SDK_WORKER": "matrix", "OTEL_ENABLED": "false", **(env or {})}
    process = subprocess.Popen(
        command(sdk, directory, program),
        cwd=directory,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield SdkWorker(process, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(WAIT_S)
        assert process.stdout is not None
        process.stdout.close()
