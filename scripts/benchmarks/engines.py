"""What is measured of the engines of tests: a fresh one, beside an empty asyncio server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figures import Report, Settings
from iii_skill.plugins import load_plugins
from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.loop_thread import LoopThread


def engines(report: Report, settings: Settings) -> None:
    """Start to ready of a thousand, one after another; each pair of the ratio is measured together."""
    plugins = load_plugins()
    started, stopped, ratios = [], [], []
    _engine_ms(LocalEngine(plugins=plugins))
    before = _resources()
    for _ in range(100 if settings.quick else 1000):
        empty = _empty_ms()
        start, stop = _engine_ms(LocalEngine(plugins=plugins))
        started.append(start)
        stopped.append(stop)
        ratios.append(start / empty)
    left = sum(_resources()) - sum(before)
    report.add("fresh engine for a test", started, "ms", bound=10, digits=2)
    report.add("end of an engine for a test", stopped, "ms", digits=2)
    report.add("fresh engine / thread with an empty asyncio server", ratios, "x", digits=1)
    report.add("threads and descriptors that engines left", [left], "", bound=0, digits=0)


def controlled(report: Report, settings: Settings) -> None:
    """The same over the control port, as other languages have it, beside a request that does nothing."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--control", "--adapter", "memory"]
    ports = ["--port", "0", "--http-port", "0"]
    begin = time.perf_counter()
    with subprocess.Popen(
        [*command, *ports, "--ready-json", "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        control = json.loads(host.stdout.readline())["control"]
        report.add("host of engines for tests, start", [(time.perf_counter() - begin) * 1000], "ms", digits=0)
        parts = urlsplit(control["url"])
        connection = HTTPConnection(str(parts.hostname), parts.port, timeout=60)

        def asked_ms(path: str) -> tuple[float, Any]:
            begin = time.perf_counter()
            connection.request("POST", path, b"{}", {"authorization": f"Bearer {control['token']}"})
            answer = json.loads(connection.getresponse().read())
            return (time.perf_counter() - begin) * 1000, answer["result"]

        opened, closed, ratios = [], [], []
        for _ in range(100 if settings.quick else 1000):
            nothing, _ids = asked_ms("/engines/1/functions")
            took, engine = asked_ms("/engines")
            opened.append(took)
            ratios.append(took / nothing)
            closed.append(asked_ms(f"/engines/{engine['engine']}/close")[0])
        connection.close()
        host.stdin.close()
        host.wait(30)
    report.add("fresh engine over the control port", opened, "ms", bound=10, digits=2)
    report.add("end of an engine over the control port", closed, "ms", digits=2)
    report.add("fresh engine / request to the control port that does nothing", ratios, "x", digits=1)


def _engine_ms(engine: LocalEngine) -> tuple[float, float]:
    begin = time.perf_counter()
    engine.start()
    ready = time.perf_counter()
    engine.stop()
    return (ready - begin) * 1000, (time.perf_counter() - ready) * 1000


def _empty_ms() -> float:
    """A thread with an event loop on which a server listens that does nothing."""

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)

    async def close(server: asyncio.Server) -> None:
        server.close()
        await server.wait_closed()

    begin = time.perf_counter()
    thread = LoopThread("empty")
    thread.start()
    server = thread.run(serve())
    ready = time.perf_counter()
    thread.run(close(server))
    thread.stop()
    return (ready - begin) * 1000


def _resources() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))
