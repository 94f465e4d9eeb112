"""What workers log by telemetry stands in the host's log, whatever else their frames hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from iii_skill import open_host
from iii_skill.server import worker_logs
from iii_skill.server.worker_logs import WorkerLogs, tell


@pytest.fixture(autouse=True)
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="iii_skill.workers"):
        yield


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def frame(*records: Any, service: str = "iii-node") -> bytes:
    """A frame as the SDKs write it."""
    resource = {"attributes": [{"key": "service.name", "value": text(service)}]}
    scope = {"scope": {"name": "iii.logger"}, "logRecords": list(records)}
    return b"LOGS" + json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}).encode()


def record(body: str, severity: int = 9, **more: Any) -> dict[str, Any]:
    return {"severityNumber": severity, "body": text(body), "attributes": [], **more}


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "iii_skill.workers"]


def test_a_line_has_service_message_data_level_and_trace(caplog: pytest.LogCaptureFixture) -> None:
    values = [
        {"key": "event", "value": text("state:created")},
        {"key": "n", "value": {"intValue": "5"}},
        {"key": "tags", "value": {"arrayValue": {"values": [text("a"), {"boolValue": True}]}}},
    ]
    attributes = [
        {"key": "service.name", "value": text("shop")},
        {"key": "log.data", "value": {"kvlistValue": {"values": values}}},
    ]
    tell(frame(record("changed", attributes=attributes, traceId="a" * 32, spanId="b" * 16)))
    data = "{'event': 'state:created', 'n': '5', 'tags': ['a', True]}"
    assert said(caplog) == [("INFO", f"[shop] changed {data}")]
    assert caplog.records[-1].trace == ("a" * 32, "b" * 16)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("trace", "span", "told"),
    [
        ("a" * 32, "b" * 16, ("a" * 32, "b" * 16)),
        ("a" * 32, "", ("a" * 32, "")),
        ("a" * 32, "\x1b" * 16, ("a" * 32, "")),
        ("a" * 32 + "\n", "b" * 16, ("", "")),
        ("", "b" * 16, ("", "")),
        ("a" * 100_000, "b" * 16, ("", "")),
        ("٣" * 32, "b" * 16, ("", "")),
    ],
)
def test_only_what_is_a_trace_is_told_as_one(
    trace: str, span: str, told: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    tell(frame(record("x", traceId=trace, spanId=span)))
    assert said(caplog) == [("INFO", "[iii-node] x")]
    assert caplog.records[-1].trace == told  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("severity", "level"),
    [(0, "INFO"), (1, "DEBUG"), (8, "DEBUG"), (9, "INFO"), (13, "WARNING"), (17, "ERROR"), (24, "ERROR")],
)
def test_each_severity_has_its_level(severity: int, level: str, caplog: pytest.LogCaptureFixture) -> None:
    tell(frame(record("x", severity)))
    assert said(caplog) == [(level, "[iii-node] x")]


def test_what_is_not_listened_to_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="iii_skill.workers")
    tell(frame(record("quiet"), record("loud", 13)))
    assert said(caplog) == [("WARNING", "[iii-node] loud")]


@pytest.mark.parametrize(
    "broken",
    [
        b"LOGS",
        b"LOGS[]",
        b"LOGS{",
        b"LOGS\xff",
        b"LOGS" + b'{"a":' * 100_000,
        b'LOGS{"resourceLogs":5}',
        b'LOGS{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"x"}]}]}]}',
    ],
)
def test_what_is_no_log_says_nothing_and_harms_nobody(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    tell(broken)
    assert said(caplog) in ([], [("DEBUG", "a frame of a worker's log is no OTLP")])


@pytest.mark.parametrize("body", [None, 5, {}, {"kvlistValue": 5}, {"arrayValue": {"values": [1, {}]}}])
def test_odd_values_are_a_line_all_the_same(body: Any, caplog: pytest.LogCaptureFixture) -> None:
    tell(frame({"body": body}))
    ((level, line),) = said(caplog)
    assert level == "INFO"
    assert line.startswith("[iii-node] ")


def test_deep_data_ends_at_a_depth(caplog: pytest.LogCaptureFixture) -> None:
    value: Any = text("end")
    for _ in range(100):
        value = {"arrayValue": {"values": [value]}}
    tell(frame(record("deep", attributes=[{"key": "log.data", "value": value}])))
    ((_, line),) = said(caplog)
    assert line == "[iii-node] deep " + "[" * worker_logs.LEVELS + "None" + "]" * worker_logs.LEVELS


def test_many_lines_and_long_frames_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    tell(frame(*(record(f"line {n}") for n in range(worker_logs.LINES + 3))))
    lines = said(caplog)
    assert len(lines) == worker_logs.LINES + 1
    assert lines[-1] == ("WARNING", "3 more lines of a worker's log are not shown")
    caplog.clear()
    long = frame(record("x" * worker_logs.FRAME_BYTES))
    tell(long)
    assert said(caplog) == [("WARNING", f"a frame of {len(long)} bytes of a worker's log is not shown")]


LEFT_OUT = f"workers log more than {worker_logs.BYTES_A_SECOND} bytes a second: the rest is left out"


def test_a_worker_that_logs_without_end_is_cut_to_so_much_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Alone it has half: the other half is for whoever comes."""
    seconds = [0.0]
    logs = WorkerLogs(lambda: seconds[0])
    part = frame(record("x" * (worker_logs.BYTES_A_SECOND // 4)))
    for _ in range(2):
        for _ in range(10):
            logs.take(part, "noisy")
        # One that is short has no place either: what is shown has no gap that is not told.
        logs.take(frame(record("short")), "noisy")
        lines = said(caplog)
        caplog.clear()
        assert [level for level, _ in lines] == ["INFO"] * 2 + ["WARNING"]
        assert lines[-1][1] == LEFT_OUT
        seconds[0] += 1.0
        logs.take(frame(record("short")), "noisy")
        assert said(caplog) == [
            ("WARNING", "9 frame(s) of the logs of 1 worker(s) were left out"),
            ("INFO", "[iii-node] short"),
        ]
        caplog.clear()
        seconds[0] += 2.0


@pytest.mark.parametrize("noisy", [1, 2, 7, 50])
@pytest.mark.parametrize("size", [200, 5_000, 150_000, 2_000_000])
def test_noisy_workers_take_no_line_of_a_quiet_one(
    noisy: int, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They log again and again before it does, second after second; all together stay within the bound."""
    seconds = [0.0]
    logs = WorkerLogs(lambda: seconds[0])
    loud, line = b"LOGS" + b"x" * size, frame(record("a quiet line"))
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_logs, "tell", lambda one: read.append(len(one)) if one != line else tell(one))
        for second in range(20):
            for _ in range(2 * worker_logs.BYTES_A_SECOND // (size * noisy) + 2):
                for number in range(noisy):
                    logs.take(loud, number)
            logs.take(line, "quiet")
            seconds[0] = second + 1.0
    quiet = [text for _, text in said(caplog) if "quiet line" in text]
    assert len(quiet) >= 19  # nobody was known in the first second
    used = sum(min(one, worker_logs.FRAME_BYTES) for one in read)
    assert worker_logs.BYTES_A_SECOND <= used <= 20 * worker_logs.BYTES_A_SECOND


def test_who_was_silent_is_forgotten() -> None:
    seconds = [0.0]
    logs = WorkerLogs(lambda: seconds[0])
    for number in range(1000):
        logs.take(frame(record("once")), number)
    for second in (1.0, 2.0, 3.0):
        seconds[0] = second
        logs.take(frame(record("x")), "the last")
    assert len(logs._used) == 1


def test_long_frames_are_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    seconds = [0.0]
    logs = WorkerLogs(lambda: seconds[0])
    long = b"LOGS" + b"x" * worker_logs.FRAME_BYTES
    for _ in range(100):
        logs.take(long, "noisy")
    assert [text for _, text in said(caplog)] == [
        f"a frame of {len(long)} bytes of a worker's log is not shown",
        LEFT_OUT,
    ]


@pytest.mark.parametrize(("path", "kind"), [("/otel", "binary"), ("/otel", "text"), ("/", "binary")])
async def test_frames_come_over_both_paths(path: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    sent = frame(record("hello"))
    async with open_host(adapter="memory") as host:
        servers = await host.serve(port=0, http_port=0)
        async with connect(servers.ws_url + path) as socket:
            await socket.send(sent if kind == "binary" else sent.decode())
            await socket.send(b'MTRC{"resourceMetrics":[]}')
            await (await socket.ping())
    assert said(caplog) == [("INFO", "[iii-node] hello")]


@pytest.mark.parametrize("path", ["/otel", "/"])
async def test_each_connection_has_a_share_of_its_own(path: str, caplog: pytest.LogCaptureFixture) -> None:
    loud = frame(record("loud " + "x" * (worker_logs.FRAME_BYTES // 4)))
    async with open_host(adapter="memory") as host:
        servers = await host.serve(port=0, http_port=0)
        async with connect(servers.ws_url + path) as noisy, connect(servers.ws_url + path) as quiet:
            for _ in range(20):
                await noisy.send(loud)
            await (await noisy.ping())
            await quiet.send(frame(record("a quiet line")))
            await (await quiet.ping())
    lines = [text for _, text in said(caplog)]
    assert LEFT_OUT in lines
    assert "[iii-node] a quiet line" in lines
