"""The control port against those who are not its client, and hosts that have none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.controlled import FREE_PORTS, Control, controlled
from support.served import runs, served_host, wait_until

SERVE = [sys.executable, "-m", "iii_skill", "serve"]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with controlled(cwd=tmp_path_factory.mktemp("control")) as control:
        yield control


def resident(process: subprocess.Popen[str]) -> int:
    """Megabytes of memory that the process has."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmRSS")


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}, {"authorization": "Basic x"}],
)
def test_without_the_token_nothing_is_answered(control: Control, headers: dict[str, str]) -> None:
    for path in ("/engines", "/engines/1/state/snapshot", "/", "/engines/1/faults/fail"):
        status, body = control.raw(path, headers=headers)
        assert (status, json.loads(body)["error"]["code"]) == (401, "UNAUTHORIZED")


def test_a_web_page_does_not_come_in(control: Control) -> None:
    for more in ({"host": "evil.example"}, {"host": "127.0.0.1", "origin": "https://evil.example"}):
        headers = {"authorization": "Bearer wrong", **more}
        status, body = control.raw("/engines", headers=headers)
        assert (status, json.loads(body)["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_everything_is_a_post(control: Control, method: str) -> None:
    assert control.raw("/engines/1/state/snapshot", method=method)[0] == 405


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", "NO_SUCH_VERB"),
        ("/engines/", "NO_SUCH_ENGINE"),
        ("/engines/77/settle", "NO_SUCH_ENGINE"),
        ("/engines/1", "NO_SUCH_VERB"),
        ("/engines/1/state", "NO_SUCH_VERB"),
        ("/engines/1/" + "x" * 5000, "NO_SUCH_VERB"),
        ("/engines/1/faults/_add", "NO_SUCH_VERB"),
        ("/engines/1/faults/__init__", "NO_SUCH_VERB"),
    ],
)
def test_an_unknown_path_is_named(control: Control, path: str, code: str) -> None:
    status, body = control.raw(path)
    assert (status, json.loads(body)["error"]["code"]) == (404, code)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"nonsense",
        b'{"scope":"a","key":"k","value":}',
        b'{"scope":"a","key":"k","value":1}{"scope":"b"}',
        b'{"scope":"a","key":"k","value":"\xff"}',
        b'{"scope":"a","key":"k","value":"\\ud800"}',
        b'{"scope":"a","key":"k","value":NaN}',
        b'{"scope":"a","key":"k","value":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"scope":1,"key":"k","value":1}',
        b'{"scope":"a","key":"k"}',
        b'{"scope":"a","key":"k","value":1,"more":1}',
        b"\x00" * 1000,
        b'"' * 1_000_001,
    ],
)
def test_a_wrong_body_is_refused(control: Control, body: bytes) -> None:
    status, answer = control.raw("/engines/1/state/set", body)
    assert (status, json.loads(answer)["error"]["code"]) in [(400, "BAD_REQUEST"), (400, "BAD_JSON")]
    assert len(answer) < 5000
    assert control.ask("/1/state/snapshot") == {}


def test_values_of_sixty_megabytes_come_and_go(control: Control) -> None:
    engine = control.open()
    value = b'"%b"' % (b"x" * 60_000_000)
    asked = b'{"scope":"a","key":"k","value":%b}' % value
    assert control.raw(f"/engines{engine}/state/set", asked) == (200, b'{"result":null}')
    got = control.raw(f"/engines{engine}/state/get", b'{"scope":"a","key":"k"}')
    assert got == (200, b'{"result":%b}' % value)
    control.ask(f"{engine}/close")


def test_too_much_is_refused_before_it_is_read(control: Control) -> None:
    with socket.create_connection(control.address) as client:
        client.sendall(control.head("", "content-length: 200000000") + b"{")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_what_is_sent_in_chunks_without_end_is_refused(control: Control) -> None:
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"

    def send(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.sendall(chunk)

    with socket.create_connection(control.address) as client:
        client.sendall(control.head("", "transfer-encoding: chunked"))
        sender = threading.Thread(target=send, args=(client,))
        sender.start()
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        client.shutdown(socket.SHUT_RDWR)
        sender.join(60)
    assert resident(control.process) < 1000


def test_those_who_send_half_or_read_nothing_hold_nobody_up(control: Control) -> None:
    half = [socket.create_connection(control.address) for _ in range(50)]
    for number, client in enumerate(half):
        head = control.head("/1/state/snapshot", "content-length: 10")
        client.sendall(head + b"{" if number % 2 else head[:-20])
    engine = control.open()
    control.raw(f"/engines{engine}/state/set", b'{"scope":"a","key":"k","value":"%b"}' % (b"x" * 4_000_000))
    lazy = [socket.create_connection(control.address) for _ in range(20)]
    for client in lazy:
        client.sendall(control.head(f"{engine}/state/snapshot") + b"{}")
    assert control.ask("/1/state/snapshot") == {}
    for client in (*half, *lazy):
        client.close()
    control.ask(f"{engine}/close")


def test_who_leaves_is_not_waited_for(control: Control) -> None:
    """Hundreds that ask for what never comes and go away leave nothing behind."""
    engine = control.open()
    body = b'{"scope":"never","within":600}'
    head = control.head(f"{engine}/events/expect", f"content-length: {len(body)}")
    before = len(os.listdir(f"/proc/{control.process.pid}/fd"))
    for _ in range(300):
        with socket.create_connection(control.address) as client:
            client.sendall(head + body)
    deadline = time.monotonic() + 30
    while len(os.listdir(f"/proc/{control.process.pid}/fd")) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    control.ask(f"{engine}/close")


def test_engines_have_a_bound(control: Control) -> None:
    opened = []
    while True:
        status, body = control.raw("/engines")
        if status != 200:
            break
        opened.append(json.loads(body)["result"]["engine"])
    assert (status, json.loads(body)["error"]["code"], len(opened)) == (503, "TOO_MANY_ENGINES", 127)
    for number in opened:
        control.ask(f"/{number}/close")
    control.ask(f"{control.open()}/close")


def test_three_hundred_engines_leave_no_descriptor_and_no_thread(control: Control) -> None:
    def held() -> tuple[int, int]:
        process = Path(f"/proc/{control.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def use() -> None:
        engine = control.open()
        control.ask(f"{engine}/state/set", scope="a", key="k", value=1)
        control.ask(f"{engine}/close")

    for _ in range(50):
        use()  # by now the process has the few threads with which it looks up addresses
    before = held()
    for _ in range(300):
        use()
    deadline = time.monotonic() + 30
    while held() != before:  # the end of the last connection is on its way
        assert time.monotonic() < deadline, (before, held())
        time.sleep(0.05)


def test_many_ask_at_a_time(control: Control) -> None:
    engine = control.open()
    failed: list[object] = []

    def write(worker: int) -> None:
        try:
            for number in range(50):
                control.ask(f"{engine}/state/set", scope="a", key=f"k{worker}-{number}", value=number)
                control.ask(f"{engine}/events/expect", scope="a", key=f"k{worker}-{number}")
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert failed == []
    assert len(control.ask(f"{engine}/state/list", scope="a")) == 400
    control.ask(f"{engine}/close")


def test_it_ends_with_what_started_it(tmp_path: Path) -> None:
    """Killed, the starter cannot say goodbye: the end of stdin says it."""
    program = tmp_path / "starter.py"
    program.write_text(
        "import subprocess, sys, time\n"
        "host = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "time.sleep(600)\n"
    )
    command = [*SERVE, "--control", "--adapter", "memory", *FREE_PORTS, "--ready-json", "--until-eof"]
    with subprocess.Popen(
        [sys.executable, str(program), *command], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as starter:
        assert starter.stdout is not None
        pid = json.loads(starter.stdout.readline())["pid"]
        starter.kill()
        wait_until("the end of the host", lambda: not runs(pid))


def test_until_eof_ends_any_host(tmp_path: Path) -> None:
    command = [*SERVE, "--adapter", "memory", *FREE_PORTS, "--ready-json", "--until-eof"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdout.readline()
        host.stdin.write("what stands there counts for nothing\n")
        host.stdin.close()
        assert host.wait(30) == 0


def test_a_normal_host_has_no_control_port(tmp_path: Path) -> None:
    with served_host("--adapter", "memory", cwd=tmp_path) as host:
        assert host.http is not None
        address = host.http.removeprefix("http://").split(":")
        for path in ("/engines", "/engines/1/state/snapshot"):
            with socket.create_connection((address[0], int(address[1]))) as client:
                client.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
                assert client.recv(100).startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))


@pytest.mark.parametrize(
    "option",
    [
        ("--host", "0.0.0.0"),
        ("--token", "secret"),
        ("--metrics-port", "0"),
        ("--allowed-host", "example.com"),
        ("--dangerously-no-auth",),
    ],
)
def test_it_is_on_loopback_alone(option: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [*SERVE, "--control", *FREE_PORTS, *option], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert f"on loopback alone: leave out {option[0]}" in done.stderr


def test_without_json_the_line_is_for_people(tmp_path: Path) -> None:
    command = [*SERVE, "--control", "--adapter", "memory", *FREE_PORTS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        line = host.stdout.readline()
        host.send_signal(signal.SIGTERM)
        assert host.wait(30) == 0
    assert line.startswith("iii-skill is ready for tests: workers on ws://127.0.0.1:")


def test_by_default_it_touches_no_store_of_the_project(tmp_path: Path) -> None:
    with controlled(cwd=tmp_path, adapter=()) as control:
        control.ask("/1/state/set", scope="a", key="k", value=1)
    assert list(tmp_path.iterdir()) == []


def test_workers_end_with_the_host_that_waited_for_them(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        subprocess.Popen(sleep, start_new_session=True) as worker,
        subprocess.Popen(sleep, start_new_session=True) as other,
    ):
        try:
            with controlled(cwd=tmp_path) as control:
                control.refused("/1/ready", pid=worker.pid, within=0)
            assert worker.wait(30) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            worker.kill()
            other.kill()
