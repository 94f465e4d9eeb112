"""The proxy does each fault to real connections, and passes everything on before and after."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from iii_skill.testing import Proxy


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.request.recv(65_536):
                self.server.heard.append(data)  # type: ignore[attr-defined]
                self.request.sendall(data.upper())


@pytest.fixture
def server() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.heard = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: socketserver.ThreadingTCPServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.server_address[1]) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection((proxy.host, proxy.port), 5)
    client.settimeout(5)
    return client


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return read(client, len(data))


def read(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = client.recv(count - len(got))
        assert more, "the connection ended"
        got += more
    return got


def silent(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        return not client.recv(1) and False
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)


def heard(server: socketserver.ThreadingTCPServer, data: bytes) -> None:
    end = time.monotonic() + 5
    while data not in b"".join(server.heard):  # type: ignore[attr-defined]
        assert time.monotonic() < end, "the request did not arrive"
        time.sleep(0.005)


def test_it_passes_everything_on_also_much_at_once(proxy: Proxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        assert ask(one, b"a") == b"A"
        assert ask(two, b"b") == b"B"
        assert (proxy.accepted, proxy.connections) == (2, 2)
        much = b"x" * 5_000_000
        sender = threading.Thread(target=one.sendall, args=(much,))
        sender.start()
        got = 0
        while got < len(much):
            got += len(one.recv(1 << 20))
        sender.join()


def test_what_is_sent_before_the_server_is_connected_arrives_in_order(proxy: Proxy) -> None:
    for _ in range(50):
        with connect(proxy) as client:
            client.sendall(b"ab")
            client.sendall(b"cd")
            assert read(client, 4) == b"ABCD"


def test_cut_resets_what_is_there_and_lets_new_connections_through(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.connections == 0
    with connect(proxy) as client:
        assert ask(client, b"b") == b"B"


def test_refuse_keeps_the_port_and_refuses_until_resume(proxy: Proxy) -> None:
    port = proxy.port
    for _ in range(3):
        with connect(proxy) as client:
            assert ask(client, b"a") == b"A"
            proxy.refuse()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.resume()
        assert proxy.port == port
    with connect(proxy) as client:
        assert ask(client, b"b") == b"B"


def test_a_connection_that_is_just_being_made_is_refused_too(proxy: Proxy) -> None:
    """The system has accepted it, and the proxy hears of it when it refuses already."""
    gate = threading.Event()
    proxy._loop.call_soon_threadsafe(gate.wait)
    with connect(proxy) as client:
        refusing = threading.Thread(target=proxy.refuse)
        refusing.start()
        while not proxy._loop._ready:  # type: ignore[attr-defined]
            time.sleep(0.001)
        gate.set()
        refusing.join()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    proxy.resume()
    with connect(proxy) as client:
        assert ask(client, b"b") == b"B"


def test_pause_holds_both_directions_and_new_connections_until_resume(
    proxy: Proxy, server: socketserver.ThreadingTCPServer
) -> None:
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.pause()
        client.sendall(b"held")
        with connect(proxy) as other:
            other.sendall(b"new")
            assert silent(client)
            assert silent(other)
            assert b"".join(server.heard) == b"a"  # type: ignore[attr-defined]
            proxy.resume()
            assert read(client, 4) == b"HELD"
            assert read(other, 3) == b"NEW"


def test_lose_silences_what_is_there_for_ever(proxy: Proxy, server: socketserver.ThreadingTCPServer) -> None:
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.lose()
        client.sendall(b"lost")
        assert silent(client)
        with connect(proxy) as other:
            assert ask(other, b"b") == b"B"
        proxy.resume()
        assert silent(client)
        assert b"lost" not in b"".join(server.heard)  # type: ignore[attr-defined]


def test_swallow_lets_requests_through_and_loses_answers(
    proxy: Proxy, server: socketserver.ThreadingTCPServer
) -> None:
    with connect(proxy) as client:
        proxy.swallow(after=1)
        assert ask(client, b"a") == b"A"
        client.sendall(b"swallowed")
        heard(server, b"swallowed")
        assert silent(client)
        assert proxy.swallowed == 1
        proxy.resume()
        assert ask(client, b"b") == b"B"


def test_delay_keeps_the_order_and_ends(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.1)
        began = time.monotonic()
        client.sendall(b"one")
        time.sleep(0.02)
        client.sendall(b"two")
        assert read(client, 6) == b"ONETWO"
        assert time.monotonic() - began >= 0.1
        proxy.resume()
        assert ask(client, b"b") == b"B"


def test_a_server_that_is_away_is_a_connection_that_breaks(server: socketserver.ThreadingTCPServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            Proxy("127.0.0.1", unused.getsockname()[1]) as proxy,
            pytest.raises(ConnectionResetError),
            connect(proxy) as client,
        ):
            client.recv(1)


def test_after_its_time_it_sets_a_client_free_that_waits_for_ever(
    server: socketserver.ThreadingTCPServer,
) -> None:
    with Proxy("127.0.0.1", server.server_address[1], seconds=600) as proxy, connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.pause()
        client.sendall(b"b")
        # Its time is over.
        proxy._loop.time = lambda: time.monotonic() + 600  # type: ignore[method-assign]
        proxy._loop.call_soon_threadsafe(lambda: None)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        proxy.resume()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)


def test_a_server_or_client_that_ends_ends_the_other(server: socketserver.ThreadingTCPServer) -> None:
    with Proxy("127.0.0.1", server.server_address[1]) as proxy:
        for _ in range(20):
            with connect(proxy) as client:
                assert ask(client, b"a") == b"A"
        end = time.monotonic() + 5
        while proxy.connections:
            assert time.monotonic() < end
            time.sleep(0.005)
