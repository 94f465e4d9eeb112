"""Where a host listens is where its ready line says that it answers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.client import raw_client
from support.host import running_host
from support.served import ServedHost, wait_until
from support.site import until
from websockets.exceptions import WebSocketException

from iii_skill import open_host
from iii_skill.errors import ConfigurationError, PortTaken
from iii_skill.server.listen import Listeners, bound_sockets, listen


def has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def has_both() -> bool:
    found = {family for family, *_ in socket.getaddrinfo("localhost", 0)}
    return has_ipv6() and found == {socket.AF_INET, socket.AF_INET6}


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")

Listening = Callable[..., Awaitable[Listeners]]


class HangsUp(asyncio.Protocol):
    """Who has read that has seen the end of the connection on both sides."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def serve(bound: socket.socket) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(HangsUp, sock=bound)


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    opened: list[Listeners] = []

    async def start(host: str, port: int = 0) -> Listeners:
        opened.append(await listen(serve, host, port, option="--port"))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def answers(host: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((host.strip("[]"), port), 20)) as client:
            return client.recv(1) == b""
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0", "127.0.0.1"),
        ("localhost", "localhost"),
        pytest.param("::1", "[::1]", marks=needs_ipv6),
        pytest.param("::", "[::1]", marks=needs_ipv6),
    ],
)
async def test_the_named_address_answers(listening: Listening, host: str, shown: str) -> None:
    found = await listening(host)
    assert found.host == shown
    assert await asyncio.to_thread(answers, found.host, found.port)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", marks=needs_ipv6),
        pytest.param("localhost", marks=pytest.mark.skipif(not has_both(), reason="localhost is IPv4 alone")),
    ],
)
async def test_one_free_port_serves_both_families(listening: Listening, host: str) -> None:
    found = await listening(host)
    for address in ("127.0.0.1", "::1"):
        assert await asyncio.to_thread(answers, address, found.port)


def test_all_addresses_of_a_name_get_the_same_free_port() -> None:
    addresses = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.2", 0))]
    sockets = bound_sockets(addresses)
    ports = {one.getsockname()[1] for one in sockets}
    for one in sockets:
        one.close()
    assert (len(sockets), len(ports)) == (2, 1)


def test_an_address_that_this_machine_does_not_have_is_passed_over() -> None:
    addresses = [(socket.AF_INET, ("192.0.2.1", 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    [only] = bound_sockets(addresses)
    assert only.getsockname()[0] == "127.0.0.1"
    only.close()


async def test_a_port_that_is_taken_on_one_address_is_refused_and_nothing_listens() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"Port {port} on localhost is taken .* --port N"):
            await listen(serve, "localhost", port, option="--port")
        assert not answers("::1", port)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "that is no address of this machine"),
        ("no-such-name.invalid", "there is no such name"),
        ("a" * 300, "there is no such name"),
    ],
)
async def test_an_address_that_is_not_ours_is_refused_with_a_sentence(host: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Cannot listen on {host}: {reason}; choose"):
        await listen(serve, host, 0, option="--port")


@pytest.mark.parametrize("address", ["localhost", pytest.param("::1", marks=needs_ipv6)])
async def test_the_ready_line_names_addresses_that_answer(tmp_path: Path, address: str) -> None:
    arguments = ("--adapter", "memory", "--host", address, "--port", "0", "--http-port", "0")
    with running_host(tmp_path, *arguments, ports=False) as host:
        async with raw_client(host.ws) as client:
            assert await client.result("state::list", {"scope": "s"}) == []
        with pytest.raises(urllib.error.HTTPError, match="404"):
            await asyncio.to_thread(urllib.request.urlopen, f"{host.http}/nope")


@needs_ipv6
async def test_every_address_of_ipv6_is_named_by_its_loopback(tmp_path: Path) -> None:
    arguments = (
        "--adapter",
        "memory",
        "--host",
        "::",
        "--token",
        "secret",
        "--port",
        "0",
        "--http-port",
        "0",
    )
    secret = {"III_SKILL_TOKEN": "secret"}
    with running_host(tmp_path, *arguments, ports=False, env=secret) as host:
        assert host.ws.startswith("ws://[::1]:")
        async with raw_client(f"{host.ws}?token=secret") as client:
            assert await client.result("state::list", {"scope": "s"}) == []


def open_files() -> int:
    """How many descriptors this process has, where that can be told."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def test_connections_are_turned_away_when_no_descriptor_is_left() -> None:
    loop = asyncio.get_running_loop()
    before = open_files()

    async def serve(bound: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(lambda _reader, writer: writer.close(), sock=bound)

    listeners = await listen(serve, "127.0.0.1", 0, option="--port")
    handler = loop.get_exception_handler()
    assert handler is not None
    clients = [socket.create_connection(("127.0.0.1", listeners.port)) for _ in range(5)]
    # The loop has had no turn to accept them.
    handler(loop, {"message": "accept failed", "exception": OSError(errno.EMFILE, "Too many open files")})
    for client in clients:
        client.settimeout(10)
        assert client.recv(1) == b""
        client.close()
    listeners.close()
    assert loop.get_exception_handler() is None
    # What an earlier test left to the collector may close meanwhile.
    await until(lambda: open_files() <= before)


def test_a_host_without_a_descriptor_says_so_in_its_own_words_and_goes_on(tmp_path: Path) -> None:
    """A real host with few of them: whoever cannot be served is turned away, later ones are served again."""
    command = [sys.executable, "-m", "iii_skill", "serve", "--adapter", "memory", "--ready-json"]
    command += ["--port", "0", "--http-port", "0"]
    log = tmp_path / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            host = ServedHost(json.loads(process.stdout.readline())["ws"], None)
            port = int(host.ws.rpartition(":")[2])
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
            wait_until("the line in the log", lambda: "no file can be opened" in log.read_text())
            for client in clients:
                client.close()
            wait_until("the host to serve again", lambda: serves(host))
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0
    assert "Traceback" not in log.read_text()


def serves(host: ServedHost) -> bool:
    try:
        return host.call("state::list", {"scope": "a"}) == {"result": []}
    except (OSError, EOFError, WebSocketException):
        return False


async def test_who_was_accepted_in_the_turn_of_the_end_is_heard() -> None:
    """asyncio drops such a connection open, so that its client waits for the collector."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    served: list[asyncio.StreamWriter] = []

    async def serve(bound: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(lambda _reader, writer: served.append(writer), sock=bound)

    listeners = await listen(serve, "127.0.0.1", 0, option="--port")

    def end() -> None:
        listeners.close()
        ended.set_result(None)

    clients = [socket.create_connection(("127.0.0.1", listeners.port)) for _ in range(5)]
    # Timers come behind what the sockets bring in the same turn.
    loop.call_later(0, end)
    await ended
    outside: set[socket.socket] = set()

    def turned_away(client: socket.socket) -> bool:
        try:
            client.recv(1)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            outside.add(client)
        return client in outside

    for client in clients:
        client.setblocking(False)
    await until(lambda: len(served) + sum(turned_away(client) for client in clients) == 5)
    for writer in served:
        writer.close()
    for client in clients:
        client.settimeout(10)
        if client not in outside:
            assert await asyncio.to_thread(client.recv, 1) == b""
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listeners.port))


async def test_a_handshake_that_comes_late_is_refused() -> None:
    async with open_host(adapter="memory") as host:
        servers = await host.serve(port=0, http_port=0)
        address = servers.ws_url.removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        async with raw_client(servers.ws_url):
            pass  # One that came later is served, so that one is accepted.
    writer.write(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b" 503 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()


async def test_other_errors_of_the_loop_are_told_as_before() -> None:
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))

    async def serve(bound: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(lambda _reader, writer: writer.close(), sock=bound)

    listeners = await listen(serve, "127.0.0.1", 0, option="--port")
    loop.call_exception_handler({"message": "something else"})
    assert told == ["something else"]
    listeners.close()
