"""A server process is started on a free port, stopped, killed, started again and gone at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from iii_skill.testing import ServerProcess
from iii_skill.testing.server import free_port, reserve, stands_still

ECHO = """
import socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
print("listening")
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


def echo(port: int, directory: Path) -> list[str]:
    return [sys.executable, "-uc", ECHO, str(port)]


def ask(port: int, *, seconds: float = 5) -> bytes:
    with socket.create_connection(("127.0.0.1", port), seconds) as client:
        client.settimeout(seconds)
        client.sendall(b"a")
        return client.recv(1)


def test_it_answers_when_it_is_started_and_is_gone_at_the_end() -> None:
    with ServerProcess(echo) as server:
        assert ask(server.port) == b"a"
        assert "listening" in server.log
        pid, directory = server.pid, server.directory
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not directory.exists()
    with pytest.raises(ConnectionRefusedError):
        ask(server.port)


def test_a_stopped_server_is_silent_and_goes_on() -> None:
    with ServerProcess(echo) as server:
        server.pause()
        assert stands_still(server.pid)
        with pytest.raises(TimeoutError):
            ask(server.port, seconds=0.2)
        server.resume()
        assert ask(server.port) == b"a"


def test_a_killed_server_starts_again_on_its_port() -> None:
    with ServerProcess(echo) as server, server.proxy() as proxy:
        assert ask(proxy.port) == b"a"
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            ask(server.port)
        server.start()
        assert ask(server.port) == b"a"
        assert ask(proxy.port) == b"a"


def test_a_stopped_server_can_be_killed() -> None:
    with ServerProcess(echo) as server:
        pid = server.pid
        server.pause()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_ends_at_once_tells_what_it_printed() -> None:
    def broken(port: int, directory: Path) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such luck')"]

    with pytest.raises(AssertionError, match="no such luck"), ServerProcess(broken):
        pass


def test_what_ready_means_can_be_said() -> None:
    def command(port: int, directory: Path) -> list[str]:
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]

    def answers(port: int) -> bool:
        try:
            with redis.Redis(port=port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    with ServerProcess(command, ready=answers) as server, redis.Redis(port=server.port) as client:
        assert client.ping()
        os.kill(server.pid, signal.SIGTERM)


OTHER = """
import sys
from iii_skill.testing.server import reserve
print(*(port for port in map(int, sys.argv[1:]) if reserve(port)))
"""


def test_a_free_port_is_handed_out_once_and_no_other_process_gets_it() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    asked = [sys.executable, "-c", OTHER, *map(str, ports)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() == []
    with ServerProcess(echo, port=ports[0]) as server:
        assert ask(server.port) == b"a"


def test_a_free_port_cannot_be_the_port_of_an_outgoing_connection() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(free_port() for _ in range(200)) < lowest


def test_a_port_that_is_in_use_is_not_reserved() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert not reserve(taken.getsockname()[1])
