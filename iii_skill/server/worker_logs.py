"""What workers log by the telemetry of their SDKs, as lines of the host's own log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

logger = logging.getLogger("iii_skill.workers")

PREFIX = b"LOGS"

FRAME_BYTES = 512 * 1024
"""Longer frames are not read for the log: their records would hold up whoever waits."""

BYTES_A_SECOND = 1024 * 1024
"""Of all workers: more is not read, so that a worker that logs without end holds up nobody else."""

SMALL_BYTES = 16 * 1024
"""Longer frames leave a quarter of a second's bytes to those up to this, to who logs a line now and then."""

LINES = 200
"""Of one frame; the rest is counted in a last line."""

_TRACE_ID, _SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")

LEVELS = 8
"""Of the data beside a message; what is deeper is left out."""


class _Attribute(msgspec.Struct):
    key: str = ""
    value: Any = None


class _Record(msgspec.Struct, rename="camel"):
    body: Any = None
    severity_number: int = 0
    attributes: list[_Attribute] = []
    trace_id: str = ""
    span_id: str = ""


class _Scope(msgspec.Struct, rename="camel"):
    log_records: list[_Record] = []


class _Source(msgspec.Struct):
    attributes: list[_Attribute] = []


class _Resource(msgspec.Struct, rename="camel"):
    resource: _Source = msgspec.field(default_factory=_Source)
    scope_logs: list[_Scope] = []


class _Logs(msgspec.Struct, rename="camel"):
    resource_logs: list[_Resource] = []


_DECODER = msgspec.json.Decoder(_Logs)


class WorkerLogs:
    """What is shown of the frames of all workers: so many bytes in a second, the rest is counted.

    Each connection has a share of them: the whole divided by those that are logging and one more. So somebody
    who was silent finds room, however much the others log. A frame may overdraw a share; later seconds pay.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._left = float(BYTES_A_SECOND)
        self._used: dict[int, float] = {}
        """Bytes shown of each connection that logs: in this second, and what earlier ones did not pay."""
        self._heard: set[int] = set()
        """Who logged in this second."""
        self._left_out: dict[int, int] = {}
        """In this second: frames of each connection."""

    def take(self, frame: bytes, sender: object) -> None:
        """Log a frame of a connection, unless it or all together have logged too much in this second."""
        now = self._now()
        if now - self._since >= 1.0:
            self._next_second(now - self._since)
            self._since = now
        key, size = id(sender), min(len(frame), FRAME_BYTES)
        used = self._used.setdefault(key, 0.0)
        self._heard.add(key)
        kept = 0 if size <= SMALL_BYTES else BYTES_A_SECOND // 4
        # One that is shorter must not take the place of one that was left out: a gap would not be seen.
        if key in self._left_out or used >= self._share() or self._left - size < kept:
            if not self._left_out:
                logger.warning(
                    "workers log more than %d bytes a second: the rest is left out", BYTES_A_SECOND
                )
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        self._used[key] = used + size
        self._left -= size
        tell(frame)

    def _share(self) -> float:
        return BYTES_A_SECOND / (len(self._used) + 1)

    def _next_second(self, seconds: float) -> None:
        if self._left_out:
            frames, workers = sum(self._left_out.values()), len(self._left_out)
            logger.warning("%d frame(s) of the logs of %d worker(s) were left out", frames, workers)
            self._left_out.clear()
        self._left = min(BYTES_A_SECOND, self._left + BYTES_A_SECOND * seconds)
        paid = self._share() * seconds
        rest = ((key, max(0.0, used - paid)) for key, used in self._used.items())
        self._used = {key: used for key, used in rest if used or key in self._heard}
        self._heard.clear()


def tell(frame: bytes) -> None:
    """Log the records of a frame: `[service] message data`, each at the level that it has."""
    if not logger.isEnabledFor(logging.ERROR):
        return
    if len(frame) > FRAME_BYTES:
        logger.warning("a frame of %d bytes of a worker's log is not shown", len(frame))
        return
    try:
        logs = _DECODER.decode(memoryview(frame)[len(PREFIX) :])
    except (msgspec.DecodeError, RecursionError):
        logger.debug("a frame of a worker's log is no OTLP")
        return
    count = 0
    for resource in logs.resource_logs:
        source = _named(resource.resource.attributes, "service.name")
        for scope in resource.scope_logs:
            for record in scope.log_records:
                count += 1
                if count <= LINES:
                    _say(record, source)
    if count > LINES:
        logger.warning("%d more lines of a worker's log are not shown", count - LINES)


def _say(record: _Record, source: Any) -> None:
    level = _level(record.severity_number)
    if not logger.isEnabledFor(level):
        return
    service = _named(record.attributes, "service.name") or source or "worker"
    said = [service, plain(record.body)]
    text = "[%s] %s"
    data = _named(record.attributes, "log.data")
    if data is not None:
        said.append(data)
        text = "[%s] %s %s"
    logger.log(level, text, *said, extra={"trace": _trace(record), "traceparent": None})


def _trace(record: _Record) -> tuple[str, str]:
    """Its trace and span; empty where they are none."""
    if not _TRACE_ID.fullmatch(record.trace_id):
        return "", ""
    return record.trace_id, record.span_id if _SPAN_ID.fullmatch(record.span_id) else ""


def _level(severity: int) -> int:
    """OpenTelemetry's 24 severities, four of each level."""
    if severity >= 17:
        return logging.ERROR
    if severity >= 13:
        return logging.WARNING
    return logging.INFO if severity >= 9 or severity <= 0 else logging.DEBUG


def _named(attributes: list[_Attribute], key: str) -> Any:
    """The value of an attribute; None without it."""
    return next((plain(one.value) for one in attributes if one.key == key), None)


def plain(value: Any, levels: int = LEVELS) -> Any:
    """A value of OTLP's JSON as plain JSON."""
    if not isinstance(value, dict) or levels == 0:
        return None
    for kind, inner in value.items():
        if kind == "kvlistValue":
            rows = _rows(inner)
            return {str(row.get("key")): plain(row.get("value"), levels - 1) for row in rows}
        if kind == "arrayValue":
            return [plain(row, levels - 1) for row in _rows(inner)]
        return inner
    return None


def _rows(inner: Any) -> list[dict[str, Any]]:
    rows = inner.get("values") if isinstance(inner, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
