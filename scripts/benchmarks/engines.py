"""What is measured of the engines of tests: a fresh one, beside an empty asyncio server."""

from __future__ import annotations

import asyncio
import os
import threading
import time

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
