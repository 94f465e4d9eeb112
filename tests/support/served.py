"""`iii-skill serve` and a worker as processes of a test, and a client of them without an event loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.client import WAIT_S
from websockets.sync.client import connect

from iii_skill.testing.engine.processes import ForeignProcess

QUIET_S = 0.15
"""A worker that sleeps and has registered nothing for so long has registered all of it."""
CALL = {"type": "invokefunction", "invocation_id": "11111111-1111-4111-8111-111111111111"}


@dataclass(frozen=True)
class ServedHost:
    """A host in a process of its own."""

    ws: str
    http: str | None

    def call(self, function_id: str, payload: object, *, timeout: float = WAIT_S) -> Mapping[str, Any]:
        """Call a function as a worker would: the answer's `result` and `error`, each only if it is there."""
        with connect(self.ws, max_size=None) as socket:
            socket.send(json.dumps({**CALL, "function_id": function_id, "data": payload}))
            deadline = time.monotonic() + timeout
            while True:
                message = json.loads(socket.recv(timeout=max(0.0, deadline - time.monotonic())))
                if message["type"] == "invocationresult":
                    return {name: message[name] for name in ("result", "error") if name in message}

    def enqueue(self, queue: str, function_id: str, payload: object) -> None:
        """Put a job for a function into a queue."""
        action = {"type": "enqueue", "queue": queue}
        with connect(self.ws) as socket:
            socket.send(json.dumps({**CALL, "function_id": function_id, "data": payload, "action": action}))
            while (message := json.loads(socket.recv(timeout=30)))["type"] != "invocationresult":
                pass
            assert "error" not in message, message

    def functions(self) -> set[str]:
        """The functions that workers offer now."""
        return {row["function_id"] for row in self.call("engine::functions::list", {})["result"]["functions"]}

    def triggers(self) -> int:
        """How many triggers there are now."""
        return len(self.call("engine::registered-triggers::list", {})["result"]["registered_triggers"])

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the JSON of one HTTP request."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.http}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")


def runs(pid: int) -> bool:
    """True for a process that is there and not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


def children_of(pid: int) -> set[int]:
    """What its threads have started; a thread may end meanwhile."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def wait_until(what: str, condition: Callable[[], bool], *, seconds: float = WAIT_S) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@contextmanager
def served_host(
    *options: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[ServedHost]:
    """`iii-skill serve` on free ports."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--port", "0", "--http-port", "0", "--ready-json"]
    command += ["--log-level", "error", *options]
    variables = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, "the host did not start"
            ready = json.loads(line)
            yield ServedHost(ready["ws"], ready["http"])
        finally:
            process.terminate()
            assert process.wait(timeout=WAIT_S) == 0


@contextmanager
def serving_worker(
    command: Sequence[str], host: ServedHost, functions: set[str], *, cwd: Path
) -> Iterator[Path]:
    """A worker that has registered these functions and all else, and sleeps (gives its log).

    It must take SIGTERM with 0.
    """
    log = cwd / "worker.log"
    environment = os.environ | {"III_URL": host.ws, "OTEL_ENABLED": "false"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
    program = ForeignProcess(process.pid)
    seen, quiet_since = -1, time.monotonic()

    def settled() -> bool:
        nonlocal seen, quiet_since
        if not functions <= host.functions():
            return process.poll() is not None
        now = host.triggers()
        if now != seen or program.idle is False:
            seen, quiet_since = now, time.monotonic()
        return time.monotonic() - quiet_since > QUIET_S

    try:
        wait_until("the worker", settled)
        assert process.poll() is None, f"the worker ended\n{log.read_text()}"
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
