"""The log of the commands that serve: on stderr, never in the way of the host, endless or forged."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import TextIO

WAITING_BYTES = 1024 * 1024
"""What may wait for a reader of stderr; lines beyond that are counted and left out."""

ONCE_IN_S = 10.0
"""A warning of one kind about one peer stands once in so many seconds; then follows how many there were."""

KINDS = 1000
"""Kinds and peers that are told apart; beyond them only kinds are."""

FLUSH_S = 0.5
"""Seconds that the last lines get at the end."""

OF_WORKERS = "iii_skill.workers"
"""The logger of what workers log themselves: all of it, as they say it."""


class _Repeated:
    __slots__ = ("count", "line", "since")

    def __init__(self, line: str, since: float) -> None:
        self.line = line
        self.since = since
        self.count = 0


class StderrLog(logging.Handler):
    """Hands lines to a thread that writes them; what a host does never waits for who reads them."""

    def __init__(self, stream: TextIO, *, once_in_s: float = ONCE_IN_S) -> None:
        super().__init__()
        self._stream = stream
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
            line = _line(record)
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
            self._queue(f"{repeated.line} (and {repeated.count} more like it)")
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
                    lines.append(
                        f"WARNING iii_skill.log: {self._dropped} lines are left out: nobody read them"
                    )
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


def log_to_stderr(level: str) -> None:
    """Lines of the given level and above go to stderr, never to stdout."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(StderrLog(sys.stderr))
    root.setLevel(level.upper())


def _line(record: logging.LogRecord) -> str:
    """One line; a traceback follows it indented. No text of a worker begins a line of its own."""
    message = "".join(letter if letter.isprintable() else _escaped(letter) for letter in record.getMessage())
    line = f"{record.levelname} {record.name}: {message}"
    if record.exc_info:
        trace = logging.Formatter().formatException(record.exc_info)
        line = "\n  ".join((line, *trace.splitlines()))
    return line


def _escaped(letter: str) -> str:
    # By hand: the codec for it would be loaded now, which fails when no file can be opened.
    number = ord(letter)
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    return known or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
