"""A page of a console that is open: it reads the stream of changes, as a browser does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.servers import Server


@contextmanager
def looking(server: Server) -> Iterator[None]:
    """Read the changes and throw them away."""
    assert server.console is not None
    address, _, token = server.console.partition("/#token=")
    place = urlsplit(address)
    head = f"GET /api/changes HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {token}\r\n\r\n"
    with socket.create_connection((place.hostname or "", place.port or 0)) as stream:
        stream.sendall(head.encode())

        def read() -> None:
            try:
                while stream.recv(1 << 20):
                    pass
            except OSError:
                return

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            stream.shutdown(socket.SHUT_RDWR)
            reader.join()
