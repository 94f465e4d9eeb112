"""SIGTERM under load: whatever a worker began is answered, and what comes too late is refused, not lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from contextlib import closing, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.projects import check_rust, node_modules, python_tools, run, write_project
from support.scaffold import LANGUAGES, covering
from support.sdk import CACHE, cargo_lock, tool
from support.served import ServedHost, served_host, wait_until
from websockets.sync.client import connect

CLIENTS = 6
BEFORE = 200
"""Answers that each kind of client has had when the signal comes."""
RECORD = {"name": "pen", "price": 1.5, "category": "office"}


class Load:
    """Clients that create records without a pause, by HTTP and by direct calls, until they are refused."""

    def __init__(self, host: ServedHost) -> None:
        self.host = host
        self.answers: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=client, daemon=True)
            for client in (self._http, self._direct)
            for _ in range(CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self._threads), "a client still waits for its answer"

    def count(self, face: str, outcome: str) -> int:
        return self.answers[face, outcome]

    def _note(self, face: str, outcome: str) -> None:
        with self._lock:
            self.answers[face, outcome] += 1

    def _http(self) -> None:
        assert self.host.http is not None
        headers = {"content-type": "application/json"}
        with closing(http.client.HTTPConnection(urlsplit(self.host.http).netloc, timeout=30)) as client:
            while True:
                client.request("POST", "/products", json.dumps(RECORD), headers)
                response = client.getresponse()
                response.read()
                self._note("http", str(response.status))
                if response.status != 201:
                    return

    def _direct(self) -> None:
        call = {"type": "invokefunction", "function_id": "products::create", "data": RECORD}
        with connect(self.host.ws) as socket:
            for number in range(1_000_000):
                key = f"{number:08x}-1111-4111-8111-111111111111"
                socket.send(json.dumps({**call, "invocation_id": key}))
                while (message := json.loads(socket.recv(timeout=30)))["type"] != "invocationresult":
                    pass
                outcome = "done" if "id" in (message.get("result") or {}) else message["error"]["code"]
                self._note("direct", outcome)
                if outcome != "done":
                    return


def worker_command(language: str, project: Path) -> list[str]:
    if language == "python":
        return [str(python_tools() / "python"), "sample_worker.py"]
    if language == "rust":
        return check_rust(project)[0]
    modules = node_modules(language)
    (project / "node_modules").symlink_to(modules)
    if language == "javascript":
        return [tool("node"), "worker.js"]
    run([tool("node"), str(modules / "typescript" / "bin" / "tsc")], project)
    return [tool("node"), "dist/src/worker.js"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_call_that_was_begun_is_answered(language: str, tmp_path: Path) -> None:
    with cargo_lock() if language == "rust" else nullcontext():
        place = CACHE / "project-rust" if language == "rust" else tmp_path / "project"
        if language == "rust":
            subprocess.run(["rm", "-rf", str(place)], check=True)
        command = worker_command(language, write_project(language, covering()[0], place))
        with served_host("--adapter", "memory", cwd=tmp_path) as host:
            stop_under_load(command, host, place)


def stop_under_load(command: list[str], host: ServedHost, place: Path) -> None:
    log = place / "worker.log"
    environment = os.environ | {"III_URL": host.ws, "OTEL_ENABLED": "false"}
    with log.open("wb") as output:
        worker = subprocess.Popen(command, cwd=place, env=environment, stdout=output, stderr=output)
    try:
        wait_until("the route", lambda: host.request("POST", "/products", RECORD)[0] == 201)
        load = Load(host)
        load.start()
        wait_until(
            "some load",
            lambda: load.count("http", "201") > BEFORE and load.count("direct", "done") > BEFORE,
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0, log.read_text()
        load.join()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    stored = len(host.call("state::list", {"scope": "products"})["result"])
    answered = load.count("http", "201") + load.count("direct", "done") + 1
    assert stored == answered, f"{stored} records, {answered} answers: {dict(load.answers)}"
    # 405 while the routes of other methods are still there.
    refused = load.count("http", "404") + load.count("http", "405")
    assert refused == CLIENTS, load.answers
    assert load.count("direct", "function_not_found") == CLIENTS, load.answers
