"""The log of the commands that serve neither blocks, nor floods, nor can be forged."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.host import WAIT_S
from websockets.sync.client import connect

from iii_skill.cli.log import OF_WORKERS, WAITING_BYTES, StderrLog


class Log:
    """A logger with a handler of its own, and what it wrote."""

    def __init__(self, name: str = "test.log") -> None:
        self.stream = io.StringIO()
        self.handler = StderrLog(self.stream, once_in_s=60)
        self.logger = logging.Logger(name)
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        self.handler.flush()
        return self.stream.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def test_no_text_of_others_begins_a_line(log: Log) -> None:
    log.logger.info("a worker says %s", "hello\nERROR root: forged\r\x1b[2J\u2028")
    (line,) = log.lines()
    assert line == "INFO test.log: a worker says hello\\nERROR root: forged\\r\\x1b[2J\\u2028"


def test_a_traceback_is_indented_behind_its_line(log: Log) -> None:
    try:
        raise ValueError("first\nERROR root: forged")
    except ValueError:
        log.logger.exception("it failed")
    first, *rest = log.lines()
    assert first == "ERROR test.log: it failed"
    assert all(line.startswith("  ") for line in rest)
    assert any("ValueError" in line for line in rest)


def test_a_warning_about_a_peer_stands_once_and_then_as_a_count(log: Log) -> None:
    for _ in range(1000):
        for peer in ("one", "two"):
            log.logger.warning("%s: %s", peer, "malformed")
    assert log.lines() == [
        "WARNING test.log: one: malformed",
        "WARNING test.log: two: malformed",
        "WARNING test.log: one: malformed (and 999 more like it)",
        "WARNING test.log: two: malformed (and 999 more like it)",
    ]


def test_peers_without_end_are_told_together(log: Log) -> None:
    for number in range(5000):
        log.logger.warning("%s: malformed", number)
    assert len(log.lines()) <= 1002


def test_what_workers_log_is_all_there() -> None:
    log = Log(OF_WORKERS)
    for _ in range(3):
        log.logger.warning("[%s] %s", "orders", "same again")
    assert log.lines() == [f"WARNING {OF_WORKERS}: [orders] same again"] * 3


@pytest.fixture
def unread() -> Iterator[tuple[int, StderrLog]]:
    """A pipe that nobody reads, and a log into it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, StderrLog(stream)
        # Let the thread of the log go: it hangs in the pipe until somebody reads.
        threading.Thread(
            target=lambda: [None for _ in iter(lambda: os.read(reading, 65536), b"")], daemon=True
        ).start()


def test_a_pipe_that_nobody_reads_holds_nothing_up_and_the_loss_is_counted(
    unread: tuple[int, StderrLog],
) -> None:
    reading, handler = unread
    logger = logging.Logger("test.log")
    logger.addHandler(handler)
    count = 3 * WAITING_BYTES // 1000
    for number in range(count):
        logger.info("%d %s", number, "x" * 1000)
    text, told = b"", 0
    # The thread that writes may have its first turn when lines are lost already, and more are later.
    while told < count:
        text += os.read(reading, 65536)
        lines = text[: text.rfind(b"\n") + 1].splitlines()
        lost = [int(line.split(b": ")[1].split()[0]) for line in lines if b"lines are left out" in line]
        told = sum(b"INFO test.log" in line for line in lines) + sum(lost)
    assert told == count
    assert lost


def test_a_host_whose_stderr_nobody_reads_serves_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iii_skill", "serve", "--adapter", "memory", "--ready-json"]
    host = subprocess.Popen(
        [*command, "--port", "0", "--http-port", "0", "--log-level", "debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert host.stdout is not None
        url = json.loads(host.stdout.readline())["ws"]
        with connect(url) as socket:
            socket.recv()
            data = {"message": "m" * 10_000}
            call = {"type": "invokefunction", "function_id": "engine::log::info", "data": data}
            for _ in range(300):
                socket.send(json.dumps({**call, "action": {"type": "void"}}))
            asked = {"type": "invokefunction", "function_id": "state::list_groups", "data": {}}
            socket.send(json.dumps({**asked, "invocation_id": "d82d3a10-1111-4222-8333-444455556666"}))
            assert json.loads(socket.recv(timeout=30))["result"] == {"groups": []}
        host.send_signal(signal.SIGTERM)
        assert host.wait(WAIT_S) == 0
    finally:
        host.kill()
        host.communicate()
