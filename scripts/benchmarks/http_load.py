"""HTTP load: keep-alive connections that each have one request in flight."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from benchmarks.echo_worker import echo_worker
from benchmarks.load import Figures
from benchmarks.servers import Server

CONNECTIONS = 32
PATH = "/bench/echo"


class _Client(asyncio.Protocol):
    """One connection: the next request leaves when the answer is complete."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self._started = 0.0
        self.latencies: list[float] = []
        self.running = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(self._buffer[:200].decode("latin-1"))
        start = head.find(b"content-length:") + 15
        length = int(head[start:].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = b""
        self.latencies.append(time.perf_counter() - self._started)
        if self.running:
            self._send()

    def _send(self) -> None:
        self._started = time.perf_counter()
        self.transport.write(self._request)


async def run_http(server: Server, *, seconds: float) -> Figures:
    """Requests to the echo worker of a server for `seconds`, after a warm-up."""
    assert server.http is not None
    worker = await echo_worker(server.ws, path=PATH)
    host, port = server.http.removeprefix("http://").split(":")
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n".encode()
    )
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CONNECTIONS):
        _, client = await loop.create_connection(lambda: _Client(request), host, int(port))
        clients.append(client)
    await asyncio.sleep(seconds / 4)
    for client in clients:
        client.latencies.clear()
    cpu, begin = server.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed, used = time.perf_counter() - begin, server.cpu_seconds() - cpu
    latencies = sorted(latency for client in clients for latency in client.latencies)
    for client in clients:
        client.running = False
        client.transport.close()
    worker.transport.disconnect()
    return Figures(
        len(latencies),
        elapsed,
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        used / len(latencies) * 1e6,
    )
