"""Telemetry: hands what the SDKs of workers tell (OTLP as JSON) to a collector, unchanged.

A thread of its own sends; what waits for it is bounded. A collector that is away or busy is tried again, and
whatever is not delivered is counted: nothing that a host does waits for any of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from iii_skill.figures import Family
from iii_skill.http.response import HEADER_NAME
from iii_skill.traces import Sampler, sampler_of

if TYPE_CHECKING:
    from http.client import HTTPConnection

logger = logging.getLogger(__name__)

WAITING_BYTES = 32 * 1024 * 1024
"""What may wait for the collector; frames beyond that are counted and left out."""

TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

AGAIN = frozenset((429, 502, 503, 504))
"""Answers after which OTLP/HTTP wants a request to be sent again."""

ANSWER_BYTES = 64 * 1024

SIGNALS = {b"OTLP": "traces", b"MTRC": "metrics", b"LOGS": "logs"}
"""How a frame begins, and what it holds."""

SENT, DROPPED, REFUSED, UNKNOWN = "sent", "dropped", "refused", "unknown"


class Collector(msgspec.Struct, frozen=True, kw_only=True):
    """Where the signals go, and what goes with them."""

    targets: Mapping[bytes, SplitResult]
    headers: Mapping[str, str]
    timeout_s: float = TIMEOUT_S
    sampler: Sampler | None = None
    """Which of the host's own spans are made; None: none."""
    service: str = "iii-skill"


def collector_of(environment: Mapping[str, str]) -> Collector | None:
    """What OpenTelemetry's variables say; None when nothing is to be forwarded.

    A variable that makes no sense is named in one line, and no reason not to start.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    targets: dict[bytes, SplitResult] = {}
    for prefix, signal in SIGNALS.items():
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        name, address = own, environment.get(own, "").strip()
        if not address:
            name = "OTEL_EXPORTER_OTLP_ENDPOINT"
            base = environment.get(name, "").strip()
            address = f"{base.rstrip('/')}/v1/{signal}" if base else ""
        if not address:
            continue
        url = _url(address)
        if url is None:
            logger.warning("%s is no http:// or https:// URL: %s are not forwarded", name, signal)
        else:
            targets[prefix] = url
    if not targets:
        return None
    if environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() == "grpc":
        logger.warning(
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, and this host forwards telemetry by HTTP alone: nothing is "
            "forwarded; name the HTTP endpoint (often port 4318) and set it to http/json"
        )
        return None
    return Collector(
        targets=targets,
        headers=_headers(environment.get("OTEL_EXPORTER_OTLP_HEADERS", "")),
        timeout_s=_timeout(environment.get("OTEL_EXPORTER_OTLP_TIMEOUT", "")),
        sampler=sampler_of(environment) if b"OTLP" in targets else None,
        service=environment.get("OTEL_SERVICE_NAME", "").strip() or "iii-skill",
    )


class Forwarder:
    """What waits for a collector, and the thread that sends it."""

    def __init__(self, collector: Collector, *, waiting_bytes: int = WAITING_BYTES) -> None:
        self._collector = collector
        self._limit = waiting_bytes
        self._frames: deque[tuple[bytes, int]] = deque()
        """What waits, each with how many spans of the host it holds."""
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = threading.Event()
        """Nothing more comes: what waits is still sent, but not waited for."""
        self._over = False
        self._thread: threading.Thread | None = None
        self._connections: dict[tuple[str, str], HTTPConnection] = {}
        self.counts = dict.fromkeys((SENT, DROPPED, REFUSED, UNKNOWN), 0)
        """Frames of workers by what became of them."""
        self.spans = dict.fromkeys((SENT, DROPPED, REFUSED), 0)
        """Spans of the host by what became of them."""

    def take(self, frame: bytes, spans: int = 0) -> None:
        """Queue a frame, or count it: one of a worker, or one of the host that holds so many spans."""
        with self._changed:
            if frame[:4] not in self._collector.targets or frame[4:5] != b"{":
                self._count(UNKNOWN, spans)
            elif self._bytes + len(frame) > self._limit or self._ending.is_set():
                self._count(DROPPED, spans)
            else:
                self._frames.append((frame, spans))
                self._bytes += len(frame)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
                    self._thread.start()
                self._changed.notify()

    def close(self, seconds: float) -> None:
        """Give what waits so long to leave, and count the rest. Blocks; safe to call twice."""
        with self._changed:
            self._ending.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            self._over = True
            for _, spans in self._frames:
                self._count(DROPPED, spans)
            self._frames.clear()
            self._bytes = 0
        lost = self.counts[DROPPED] + self.counts[REFUSED]
        if lost:
            logger.warning("%d frame(s) of workers' telemetry did not reach the collector", lost)
        lost = self.spans[DROPPED] + self.spans[REFUSED]
        if lost:
            logger.warning("%d span(s) of this host did not reach the collector", lost)

    def families(self) -> list[Family]:
        """For those who watch the host."""
        frames = [({"outcome": outcome}, count) for outcome, count in self.counts.items()]
        return [
            Family("iii_telemetry_frames", "counter", "Frames of workers' telemetry.", frames),
            Family(
                "iii_telemetry_spans",
                "counter",
                "Spans of this host.",
                [({"outcome": outcome}, count) for outcome, count in self.spans.items()],
            ),
            Family(
                "iii_telemetry_waiting_bytes", "gauge", "Bytes that wait to be sent.", [({}, self._bytes)]
            ),
        ]

    def _count(self, outcome: str, spans: int) -> None:
        if spans:
            self.spans[outcome] += spans
        else:
            self.counts[outcome] += 1

    def _run(self) -> None:
        try:
            self._send_all()
        finally:
            for connection in self._connections.values():
                connection.close()

    def _send_all(self) -> None:
        pause, away = FIRST_PAUSE_S, False
        while True:
            with self._changed:
                while not self._frames:
                    if self._ending.is_set():
                        return
                    self._changed.wait()
                frame, spans = self._frames[0]
            outcome, reason = self._post(frame)
            if outcome is None:
                if not away:
                    away = True
                    logger.warning("the collector takes no telemetry now, it is tried again: %s", reason)
                if self._ending.wait(pause):
                    # The pauses are short at the end: little time is left.
                    time.sleep(FIRST_PAUSE_S)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                if self._over:
                    return
                continue
            if away:
                away, pause = False, FIRST_PAUSE_S
                logger.warning(
                    "the collector takes telemetry again; left out: %d frame(s), %d span(s) of this host",
                    self.counts[DROPPED],
                    self.spans[DROPPED],
                )
            if outcome == REFUSED:
                logger.warning("the collector refused telemetry: %s", reason)
            with self._changed:
                if self._over:
                    # It is counted as dropped already.
                    return
                self._count(outcome, spans)
                self._frames.popleft()
                self._bytes -= len(frame)

    def _post(self, frame: bytes) -> tuple[str | None, str]:
        """What became of a frame, None: it must be sent again; and the reason."""
        # Late: few hosts have a collector.
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        url = self._collector.targets[frame[:4]]
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {**self._collector.headers, "content-type": "application/json"}
        key = (url.scheme, url.netloc)
        connection = self._connections.get(key)
        if connection is None:
            kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
            connection = kind(url.hostname or "", url.port, timeout=self._collector.timeout_s)
            self._connections[key] = connection
        try:
            connection.request("POST", path, memoryview(frame)[4:], headers)
            answer = connection.getresponse()
            if len(answer.read(ANSWER_BYTES)) == ANSWER_BYTES:
                connection.close()
        except (OSError, HTTPException) as error:
            connection.close()
            return None, f"{type(error).__name__}: {error}"
        reason = f"{answer.status} {answer.reason}"
        if answer.status in AGAIN:
            return None, reason
        return (SENT if 200 <= answer.status < 300 else REFUSED), reason


def _url(address: str) -> SplitResult | None:
    try:
        url = urlsplit(address)
        # What no name can be raises a ValueError, and no OSError, when it is looked up.
        host = (url.hostname or "").encode("idna")
        usable = url.scheme in ("http", "https") and host and url.port != 0
    except ValueError:
        return None
    if not usable or url.username is not None or not (address.isascii() and address.isprintable()):
        return None
    return None if " " in address else url


def _headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, values percent-encoded; what is none is named without its value."""
    headers: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = pair.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if equals and HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable():
            headers[name] = value
        else:
            logger.warning("OTEL_EXPORTER_OTLP_HEADERS: an entry is no header and is left out")
    return headers


def _timeout(text: str) -> float:
    """Milliseconds, as seconds."""
    if text.strip().isdecimal() and 0 < int(text.strip()[:9]) <= 600_000:
        return int(text.strip()[:9]) / 1000
    return TIMEOUT_S
