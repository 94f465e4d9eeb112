"""PlainWire: the connection of commands that make one call after the other."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.host import running_host

from iii_skill.cli.main import cli
from iii_skill.cli.plain_wire import takes
from iii_skill.server.frames import text_frames

HEAVY = ("asyncio", "picows", "ssl", "iii_skill.engine", "iii_skill.state", "logging", "json")
GREETING = b'{"type":"workerregistered","worker_id":"w","reattach_token":"t"}'


def run(*words: str, stdin: str | None = None) -> Result:
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith("III_")}
    return CliRunner(env=clean).invoke(cli, words, input=stdin, prog_name="iii-skill")


def test_one_call_imports_no_event_loop(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        assert run("state", "set", "s", "k", "[1]", "--url", host.ws).exit_code == 0
        script = f"""
import sys
from iii_skill.cli.main import main
sys.argv = ["iii-skill", "state", "get", "s", "k", "--url", {host.ws!r}]
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[1]\n[]\n"


def test_values_of_every_size_of_frame_come_back(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory") as host:
        for size in (0, 1, 125, 126, 900, 1100, 65_535, 65_536, 9_000_000):
            value = json.dumps("é" + "x" * size, ensure_ascii=False)
            assert run("state", "set", "s", "k", "--url", host.ws, stdin=value).exit_code == 0
            assert run("state", "get", "s", "k", "--url", host.ws).stdout == value + "\n"
        # An answer of several frames.
        assert run("state", "set", "s", "l", "--url", host.ws, stdin=value).exit_code == 0
        assert run("state", "list", "s", "--values", "--url", host.ws).stdout == f"[{value},{value}]\n"


def test_a_token_lets_it_in_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "memory", "--token", "secret-of-the-test") as host:
        done = run("state", "scopes", "--url", host.ws)
        assert (done.exit_code, "(401): give its token with --token" in done.stderr) == (5, True)
        assert run("state", "scopes", "--url", host.ws, "--token", "secret-of-the-test").exit_code == 0


@contextmanager
def engine(serve: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """What takes one connection on a port of its own: `serve` gets it and the head of the request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65_536)
                serve(connection, head)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"
        thread.join(20)
        assert not thread.is_alive()


def upgrade(connection: socket.socket, head: bytes, *behind: bytes) -> None:
    """Answer as a WebSocket server does."""
    key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    connection.sendall(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + b"".join(behind))


def received(connection: socket.socket) -> tuple[int, bytes]:
    """The opcode and the body of the next frame of a client."""
    with connection.makefile("rb", buffering=0) as file:
        first, second = file.read(2) or b"\0\0"
        size = second & 127
        if size == 126:
            (size,) = struct.unpack(">H", file.read(2) or b"")
        key, body = file.read(4) or b"", file.read(size) or b""
    return first & 15, bytes(byte ^ key[at % 4] for at, byte in enumerate(body))


def asked(connection: socket.socket) -> dict[str, str]:
    """The call behind the text that says who the client is."""
    assert json.loads(received(connection)[1])["function_id"] == "engine::workers::register"
    call: dict[str, str] = json.loads(received(connection)[1])
    return call


def test_pings_fragments_and_texts_for_others_are_in_nobodys_way() -> None:
    def serve(connection: socket.socket, head: bytes) -> None:
        # The greeting comes with the answer, in pieces of one byte each.
        last = len(GREETING) - 1
        pieces = [bytes(((at == last) << 7 | (at == 0), 1, byte)) for at, byte in enumerate(GREETING)]
        upgrade(connection, head, *pieces)
        call = asked(connection)
        answer = {"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "f"}
        text = json.dumps({**answer, "result": 7}).encode()
        connection.sendall(text_frames([b'{"type":"new"}', b"{", b'{"type":"invocationresult","error":1}']))
        connection.sendall(bytes((0x01, len(text) - 1)) + text[:-1])
        connection.sendall(b"\x89\x02hi")
        assert received(connection) == (0xA, b"hi")
        connection.sendall(b"\x80\x01" + text[-1:])

    with engine(serve) as url:
        done = run("trigger", "f", "--url", url)
    assert (done.exit_code, done.stdout) == (0, "7\n")


def not_http(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def elsewhere(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9\r\n\r\n")


def odd_status(connection: socket.socket, head: bytes) -> None:
    connection.sendall(
        b"HTTP/1.1 \xb9\xb2\xb3 Odd\r\n\r\n"
    )  # superscripts are digits to Python, and no number


def without_accept(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")


def endless_head(connection: socket.socket, head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 300_000)


def gone(connection: socket.socket, head: bytes) -> None:
    upgrade(connection, head)


def refusing(connection: socket.socket, head: bytes) -> None:
    refusal = {"type": "error", "error": {"code": "AUTH_FAILED", "message": "not you"}}
    upgrade(connection, head, text_frames([json.dumps(refusal).encode()]))


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (not_http, "it does not answer as an HTTP server does"),
        (elsewhere, "sends this worker elsewhere (302)"),
        (odd_status, "it does not answer as an HTTP server does"),
        (without_accept, "it does not answer as a WebSocket server does"),
        (endless_head, "it does not answer as an HTTP server does"),
        (gone, "it closed the connection"),
        (refusing, "The engine refuses the connection: AUTH_FAILED: not you"),
    ],
)
def test_what_is_no_engine_is_told(serve: Callable[[socket.socket, bytes], None], says: str) -> None:
    with engine(serve) as url:
        done = run("state", "get", "s", "k", "--url", url)
    assert done.exit_code == 5
    assert says in done.stderr


@pytest.mark.parametrize(
    ("frames", "code", "says"),
    [
        (b"", 5, "The engine went away before it answered."),
        (b"\x88\x02\x03\xe8", 5, "The engine went away before it answered."),
        (b"\x81\x7f" + (1 << 40).to_bytes(8, "big"), 5, "The engine went away before it answered."),
        (b"\x89\x7e\xff\xff", 5, "The engine went away before it answered."),
    ],
)
def test_a_break_in_a_call_is_told(frames: bytes, code: int, says: str) -> None:
    def serve(connection: socket.socket, head: bytes) -> None:
        upgrade(connection, head, text_frames([GREETING]))
        asked(connection)
        connection.sendall(frames)

    with engine(serve) as url:
        done = run("state", "get", "s", "k", "--url", url)
    assert (done.exit_code, says in done.stderr) == (code, True)


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("words", "result", "says"),
    [
        (("state", "get", "s", "k"), b'"\xff"', "it sends texts that are not UTF-8"),
        (("state", "get", "s", "k", "--json"), b'"\xff"', "it sends texts that are not UTF-8"),
        (("state", "get", "s", "k"), DEEP, "it sends texts that are nested too deeply"),
        (("state", "delete", "s", "k"), DEEP, "it sends texts that are nested too deeply"),
        (("trigger", "f"), b'{"\xc0\x80":1}', "it sends texts that are not UTF-8"),
    ],
)
def test_an_answer_that_cannot_be_read_is_told(words: tuple[str, ...], result: bytes, says: str) -> None:
    def serve(connection: socket.socket, head: bytes) -> None:
        upgrade(connection, head, text_frames([GREETING]))
        invocation_id = asked(connection)["invocation_id"].encode()
        head = b'{"type":"invocationresult","function_id":"f","invocation_id":"' + invocation_id
        connection.sendall(text_frames([head + b'","result":' + result + b"}"]))

    with engine(serve) as url:
        done = run(*words, "--url", url)
    assert done.exit_code == 5
    assert f"The engine's answer cannot be read: {says}; the outcome of the call is unknown." in done.stderr


def test_an_error_of_an_engine_cannot_steer_the_terminal() -> None:
    error = {"code": "NOPE", "message": "no\x1b[2J\x1b]0;owned\x07\u202e\x00\nmore\rEND"}

    def serve(connection: socket.socket, head: bytes) -> None:
        upgrade(connection, head, text_frames([GREETING]))
        invocation_id = asked(connection)["invocation_id"]
        told = {
            "type": "invocationresult",
            "function_id": "f",
            "invocation_id": invocation_id,
            "error": error,
        }
        connection.sendall(text_frames([json.dumps(told).encode()]))

    with engine(serve) as url:
        done = run("trigger", "f", "--url", url)
    told = "Error: no\\x1b[2J\\x1b]0;owned\\x07\\u202e\\x00\nmore\\rEND"
    assert (done.exit_code == 0, told in done.stderr) == (False, True), done.stderr


def test_a_greeting_that_cannot_be_read_is_told() -> None:
    for text in (b'{"type":"\xff"}', b'{"type":"hello","a":' + DEEP + b"}"):

        def serve(connection: socket.socket, head: bytes, text: bytes = text) -> None:
            upgrade(connection, head, text_frames([text]))

        with engine(serve) as url:
            done = run("state", "get", "s", "k", "--url", url)
        assert done.exit_code == 5
        assert "it sends texts that are n" in done.stderr


def test_an_answer_that_does_not_come_is_given_up() -> None:
    def serve(connection: socket.socket, head: bytes) -> None:
        upgrade(connection, head, text_frames([GREETING]))
        asked(connection)
        # It lives, until the command ends; that may be before this thread has its turn.
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"\x89\x00")
            received(connection)
            assert connection.recv(1) == b""

    with engine(serve) as url:
        done = run("trigger", "slow::one", "--timeout-ms", "300", "--url", url)
    assert done.exit_code == 5
    assert "'slow::one' did not answer within 0.3 s; its outcome is unknown." in done.stderr


def test_an_interrupt_ends_a_call_with_130() -> None:
    waiting = threading.Event()

    def serve(connection: socket.socket, head: bytes) -> None:
        upgrade(connection, head, text_frames([GREETING]))
        asked(connection)
        waiting.set()
        assert connection.recv(1) == b""

    with engine(serve) as url:
        words = [sys.executable, "-m", "iii_skill", "trigger", "slow::one", "--url", url]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
            assert waiting.wait(30)
            command.send_signal(signal.SIGINT)
            out, told = command.communicate(timeout=30)
    assert (command.returncode, out, told) == (130, "", f"[{url}]\n")


@pytest.mark.parametrize("url", ["ws://", "ws://127.0.0.1:port", "ws://a b", "ws://127.0.0.1:9/\r\nX: y"])
def test_what_is_no_address_is_told(url: str) -> None:
    done = run("state", "get", "s", "k", "--url", url)
    assert done.exit_code == 5
    assert f"{url} is no address" in done.stderr or "Nothing answers at" in done.stderr


def test_tls_and_logins_take_the_other_way() -> None:
    assert [takes(url) for url in ("ws://h:1", "wss://h:1", "ws://me:pw@h:1", "http://h")] == [
        True,
        False,
        False,
        False,
    ]
