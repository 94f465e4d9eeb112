"""A collector of OTLP over HTTP that reads what it gets with OpenTelemetry's own messages."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MESSAGES: dict[str, type[Message]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
IDS = ("traceId", "spanId", "parentSpanId")


class Collector:
    """What it got, in order. `answers` are the next statuses; then everything is 200."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.answers.pop(0) if collector.answers else 200
                if status == 200:
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                    collector.got.append((self.path, body))
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def read(self, path: str) -> list[Any]:
        """Everything that came to one path, decoded; an unknown field fails."""
        return [
            ParseDict(_with_bytes(json.loads(body)), MESSAGES[path]())
            for got, body in list(self.got)
            if got == path
        ]


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    collector = Collector(port)
    try:
        yield collector
    finally:
        collector.close()


def _with_bytes(value: Any, key: str = "") -> Any:
    """The JSON of OTLP says ids in hexadecimal, that of protobuf in base64; else the two are one."""
    if isinstance(value, dict):
        return {name: _with_bytes(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_bytes(inner, key) for inner in value]
    if key in IDS and isinstance(value, str):
        return base64.b64encode(bytes.fromhex(value)).decode()
    return value
