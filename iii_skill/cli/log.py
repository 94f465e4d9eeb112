"""The log of the commands that serve: on stderr, never in the way of the host, endless or forged."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

import click

from iii_skill.calls import TRACE, trace_context
from iii_skill.cli.printable import printable

WAITING_BYTES = 1024 * 1024
"""What may wait for a reader of stderr; lines beyond that are counted and left out."""

ONCE_IN_S = 10.0
"""A warning of one kind about one peer stands once in so many seconds; then follows how many there were."""

KINDS = 1000
"""Kinds and peers that are told apart; beyond them only kinds are."""

FLUSH_S = 0.5
"""Seconds that the last lines get at the end."""

OF_THE_LOG = "iii_skill.log"
"""The logger of what the log says about itself."""

LOST = "%d lines are left out: nobody read them"

OF_WORKERS = "iii_skill.workers"
"""The logger of what workers log themselves: all of it, as they say it."""


class Lines(Protocol):
    """How a log is written down, one line for each record."""

    def of(self, record: logging.LogRecord) -> str:
        """The line of a record."""

    def again(self, line: str, count: int) -> str:
        """A line that stood there before, with how many more there were like it."""

    def lost(self, count: int) -> str:
        """What takes the place of lines that nobody read."""


class TextLines:
    """For people: `LEVEL logger: what happened`."""

    def of(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows it indented. No text of a worker begins a line of its own."""
        line = f"{record.levelname} {record.name}: {printable(record.getMessage())}"
        if record.exc_info:
            line = "\n  ".join((line, *_traceback(record).splitlines()))
        return line

    def again(self, line: str, count: int) -> str:
        """The count stands behind the line."""
        return f"{line} (and {count} more like it)"

    def lost(self, count: int) -> str:
        """A warning of the log itself."""
        return f"WARNING {OF_THE_LOG}: {LOST % count}"


class JsonLines:
    """For programs: one object on each line, with `ts`, `level`, `logger` and `event`.

    `trace_id` and `span_id` are there when the line tells of a call that has a trace, `exception` holds a
    traceback; `repeated` stands where a line was held back so many times.
    """

    def of(self, record: logging.LogRecord) -> str:
        """Everything of a record is on its line."""
        fields: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        trace_id, span_id = _trace_of(record)
        if trace_id:
            fields["trace_id"] = trace_id
        if span_id:
            fields["span_id"] = span_id
        if record.exc_info:
            fields["exception"] = _traceback(record)
        return _json(fields)

    def again(self, line: str, count: int) -> str:
        """The same object, now, with the count; the calls of the others had traces of their own."""
        fields = json.loads(line)
        fields.pop("trace_id", None)
        fields.pop("span_id", None)
        return _json({**fields, "ts": _timestamp(time.time()), "repeated": count})

    def lost(self, count: int) -> str:
        """A warning of the log itself, with the count."""
        return _json(
            {
                "ts": _timestamp(time.time()),
                "level": "warning",
                "logger": OF_THE_LOG,
                "event": LOST % count,
                "lost": count,
            }
        )


FORMATS: dict[str, Lines] = {"text": TextLines(), "json": JsonLines()}

log_format_option = click.option(
    "--log-format",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="How: lines for people, or one JSON object on each.",
)


class _Repeated:
    __slots__ = ("count", "line", "since")

    def __init__(self, line: str, since: float) -> None:
        self.line = line
        self.since = since
        self.count = 0


class StderrLog(logging.Handler):
    """Hands lines to a thread that writes them; what a host does never waits for who reads them."""

    def __init__(
        self, stream: TextIO, *, lines: Lines = FORMATS["text"], once_in_s: float = ONCE_IN_S
    ) -> None:
        super().__init__()
        self._stream = stream
        self._style = lines
        self._once_in_s = once_in_s
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._dropped = 0
        self._writing = False
        self._repeated: dict[tuple[str, ...], _Repeated] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it."""
        try:
            line = self._style.of(record)
        except Exception:
            # A line that cannot be made is one that is left out; to say more would go past the queue.
            with self._changed:
                self._dropped += 1
            return
        with self._changed:
            if (
                record.levelno >= logging.WARNING
                and record.name != OF_WORKERS
                and self._is_repeated(record, line)
            ):
                return
            self._queue(line)

    def flush(self) -> None:
        """Wait until everything is written, but not for a reader that does not read."""
        deadline = time.monotonic() + FLUSH_S
        with self._changed:
            for one in self._repeated.values():
                self._say(one)
            while (self._lines or self._writing) and self._thread is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _is_repeated(self, record: logging.LogRecord, line: str) -> bool:
        """Count a warning that was given just now; the first argument of its text says whom it is about."""
        peer = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        kind = (record.name, str(record.msg))
        key = (
            (*kind, peer[:200])
            if len(self._repeated) < KINDS or (*kind, peer[:200]) in self._repeated
            else kind
        )
        now = time.monotonic()
        seen = self._repeated.get(key)
        if seen is None:
            self._repeated[key] = _Repeated(line, now)
            return False
        if now - seen.since < self._once_in_s:
            seen.count += 1
            return True
        self._say(seen)
        seen.line, seen.since = line, now
        return False

    def _say(self, repeated: _Repeated) -> None:
        if repeated.count:
            self._queue(self._style.again(repeated.line, repeated.count))
            repeated.count = 0

    def _queue(self, line: str) -> None:
        if self._bytes + len(line) > WAITING_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._bytes += len(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._lines:
                    # While something is counted, the count is said when its time is up.
                    self._changed.wait(self._once_in_s / 4 if self._repeated else None)
                    self._forget()
                lines = list(self._lines)
                self._lines.clear()
                self._bytes = 0
                if self._dropped:
                    lines.append(self._style.lost(self._dropped))
                    self._dropped = 0
                self._writing = True
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody will ever read it: there is no place to say so.
                pass

    def _forget(self) -> None:
        now = time.monotonic()
        for key, one in list(self._repeated.items()):
            if now - one.since >= self._once_in_s:
                self._say(one)
                del self._repeated[key]


def log_to_stderr(level: str, log_format: str = "text") -> None:
    """Lines of the given level and above go to stderr, never to stdout; `log_format` is one of FORMATS."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(StderrLog(sys.stderr, lines=FORMATS[log_format]))
    root.setLevel(level.upper())


def _trace_of(record: logging.LogRecord) -> tuple[str, str]:
    """Trace and span of a line: what a worker said, the `traceparent` of its call, or where it is written."""
    told: tuple[str, str] | None = getattr(record, "trace", None)
    if told is not None and told[0]:
        return told
    traceparent = trace_context(getattr(record, "traceparent", None) or TRACE.get())
    return ("", "") if traceparent is None else (traceparent[3:35], traceparent[36:52])


def _traceback(record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return logging.Formatter().formatException(record.exc_info)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _json(fields: dict[str, Any]) -> str:
    """One line of pure ASCII: no terminal and no reader of lines takes anything in it for an end of line."""
    return json.dumps(fields, separators=(",", ":"))
