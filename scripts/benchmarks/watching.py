"""What it costs to watch a host: metrics, and traces at one in a hundred, beside the same host unwatched."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvloop

from benchmarks import load, servers
from benchmarks.figures import Report, Settings
from benchmarks.load import run_load
from benchmarks.servers import Server

SLICES = 8
"""Alternations in a round: the machine changes its speed within seconds."""


@contextmanager
def collector() -> Iterator[str]:
    """The URL of a collector that takes everything and keeps nothing."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def cpu(server: Server, tails: Sequence[bytes], seconds: float) -> float:
    """CPU of a call in microseconds."""
    return uvloop.run(run_load(server.ws, tails, server.cpu_seconds, seconds=seconds)).cpu_us


def pairs(plain: Server, watched: Server, tails: Sequence[bytes], settings: Settings) -> float:
    """CPU of a call on the second over that on the first, in alternating slices."""
    first, second = 0.0, 0.0
    slices = 2 if settings.quick else SLICES
    for number in range(slices):
        order = (plain, watched) if number % 2 else (watched, plain)
        for server in order:
            used = cpu(server, tails, settings.seconds / 2)
            if server is plain:
                first += used
            else:
                second += used
    return second / first


def watching(report: Report, settings: Settings) -> None:
    """CPU of a mixed call in memory on a watched host over that on one that nobody watches."""
    counted, sampled = [], []
    for _ in range(settings.rounds):
        with servers.host("--adapter", "memory") as plain, collector() as url:
            with servers.host("--adapter", "memory", "--metrics-port", "0") as host:
                counted.append(pairs(plain, host, load.mixed(), settings))
            env = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_TRACES_SAMPLER": "traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.01",
            }
            with servers.host("--adapter", "memory", env=env) as host:
                sampled.append(pairs(plain, host, load.traced(load.mixed()), settings))
    report.add("metrics, CPU of a call / unwatched", counted, "x", bound=1.01)
    report.add("traces of 1 %, CPU of a call / untraced", sampled, "x", bound=1.01)
