"""`--log-format json`: every line of the log is one JSON object, whatever workers and failures bring."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.host import WAIT_S
from websockets.sync.client import connect

from iii_skill.calls import TRACE
from iii_skill.cli.log import FORMATS, WAITING_BYTES, StderrLog


class Log:
    """A logger that writes JSON, and the objects that it wrote."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.handler = StderrLog(self.stream, lines=FORMATS["json"], once_in_s=60)
        self.logger = logging.Logger("test.log")
        self.logger.addHandler(self.handler)

    def objects(self) -> list[dict[str, Any]]:
        self.handler.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_line_says_when_how_bad_who_and_what(log: Log) -> None:
    log.logger.warning("%s: %s", "a worker", "malformed")
    (one,) = log.objects()
    written = datetime.fromisoformat(one.pop("ts"))
    assert written.utcoffset() == timedelta(0)
    assert one == {"level": "warning", "logger": "test.log", "event": "a worker: malformed"}


@pytest.mark.parametrize(
    "text", ['a\n{"level":"error"}', "\r\x1b[2J\u2028\u2029\x85", '"\\', "\ud800", "Grüße 🎉", "\x00"]
)
def test_no_text_ends_its_line_and_every_text_comes_back(log: Log, text: str) -> None:
    log.logger.info("%s", text)
    assert log.stream is not None
    (one,) = log.objects()
    assert one["event"] == text
    assert log.stream.getvalue().isascii()


def test_a_traceback_stays_on_the_line(log: Log) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.logger.exception("it failed")
    (one,) = log.objects()
    assert one["event"] == "it failed"
    assert one["exception"].endswith("ValueError: first\nsecond")


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_line_about_a_traced_call_names_trace_and_span(log: Log) -> None:
    log.logger.info("told", extra={"traceparent": TRACEPARENT})
    token = TRACE.set(TRACEPARENT)
    log.logger.info("inside")
    TRACE.reset(token)
    log.logger.info("by a worker", extra={"trace": ("t", ""), "traceparent": TRACEPARENT})
    log.logger.info("no trace", extra={"trace": ("", ""), "traceparent": "garbage"})
    told, inside, worker, none = log.objects()
    ids = {"trace_id": TRACEPARENT[3:35], "span_id": TRACEPARENT[36:52]}
    assert ids.items() <= told.items()
    assert ids.items() <= inside.items()
    assert (worker["trace_id"], "span_id" in worker) == ("t", False)
    assert not {"trace_id", "span_id"} & none.keys()


def test_what_was_held_back_is_a_number(log: Log) -> None:
    for _ in range(1000):
        log.logger.warning("%s: %s", "peer", "malformed", extra={"traceparent": TRACEPARENT})
    first, again = log.objects()
    assert "trace_id" in first
    assert "trace_id" not in again  # the calls of the others had traces of their own
    assert "repeated" not in first
    assert again["repeated"] == 999
    assert again["event"] == first["event"]
    assert again["ts"] >= first["ts"]


def test_what_nobody_read_is_a_number(log: Log) -> None:
    # One turn of the writing thread cannot come in between: it needs the lock that is held here.
    with log.handler._changed:
        for _ in range(2 * WAITING_BYTES // 1000):
            log.handler._queue('{"event":"%s"}' % ("x" * 1000))
    *written, lost = log.objects()
    assert lost["logger"] == "iii_skill.log"
    assert lost["lost"] == 2 * WAITING_BYTES // 1000 - len(written)


def test_a_host_logs_nothing_but_objects(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "iii_skill", "serve", "--adapter", "memory", "--ready-json"]
    host = subprocess.Popen(
        [*command, "--port", "0", "--http-port", "0", "--log-format", "json", "--log-level", "debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    try:
        assert host.stdout is not None
        with connect(json.loads(host.stdout.readline())["ws"]) as socket:
            socket.recv()
            call = {"type": "invokefunction", "function_id": "engine::log::info"}
            void = {"action": {"type": "void"}}
            socket.send(json.dumps({**call, **void, "data": {"message": "two\nlines"}}))
            socket.send("no json")
            asked = {**call, "function_id": "nowhere::to-be-found", "data": {}}
            socket.send(json.dumps({**asked, "invocation_id": "d82d3a10-1111-4222-8333-444455556666"}))
            assert "error" in json.loads(socket.recv(timeout=30))
        host.send_signal(signal.SIGTERM)
        _, written = host.communicate(timeout=WAIT_S)
        assert host.returncode == 0
    finally:
        if host.poll() is None:
            host.kill()
            host.communicate()
    objects = [json.loads(line) for line in written.splitlines()]
    assert all({"ts", "level", "logger", "event"} <= one.keys() for one in objects)
    events = [one["event"] for one in objects]
    assert any("two\nlines" in event for event in events)
    assert any("nowhere::to-be-found" in event for event in events)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("serve", "--config", "nowhere.yaml"), 1, "There is no configuration file 'nowhere.yaml'."),
        (("serve", "--port", "99999"), 2, "99999 is not in the range"),
        (
            ("attach", "--adapter", "nope", "--engine", "ws://127.0.0.1:9"),
            1,
            "There is no state adapter 'nope'.",
        ),
        (("console", "--url", "ws://127.0.0.1:9"), 5, "Nothing answers at ws://127.0.0.1:9"),
    ],
)
@pytest.mark.parametrize("by", ["option", "variable"])
def test_what_ends_a_start_is_an_object_too(
    tmp_path: Path, words: tuple[str, ...], code: int, says: str, by: str
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
    more = ["--log-format", "json"] if by == "option" else []
    if by == "variable":
        env[f"III_SKILL_{words[0].upper()}_LOG_FORMAT"] = "json"
    command = [sys.executable, "-m", "iii_skill", *words, *more]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert (done.returncode, told["level"], says in told["event"]) == (code, "error", True), told


def test_a_start_that_fails_for_a_reason_nobody_thought_of_is_an_object_too(tmp_path: Path) -> None:
    broken = (
        "import sys, iii_skill.cli.serve as serve\n"
        "def fail(*_, **__): raise RuntimeError('no\\nplan')\n"
        "serve.serve.callback = fail\n"
        "sys.argv = ['iii-skill', 'serve', '--log-format=json']\n"
        "from iii_skill.cli.main import main; main()\n"
    )
    command = [sys.executable, "-c", broken]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    told = json.loads(line)
    assert (done.returncode, told["event"]) == (1, "RuntimeError: no\nplan")
    assert "in fail" in told["exception"]
