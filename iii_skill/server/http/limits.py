"""What clients may send and leave unread: the bounds of a request, a connection and all connections."""

from __future__ import annotations

import msgspec

MAX_URL = 65534
MAX_HEADERS = 100
MAX_HEAD = 64 * 1024
"""Bytes of all header lines of a request, and of trailers and chunk extensions between two body bytes."""

LINGER_S = 1.0
"""How long a client may go on sending after its last answer: closing at once would cost it that."""

AT_ONCE = 32
"""So many pipelined requests are served in one turn of the event loop, then others have theirs."""

MEBIBYTE = 1024 * 1024


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that a port has."""

    max_connections: int = 0
    """Clients at a time; 0: three quarters of the files that the process may open."""

    max_body_bytes: int = 64 * MEBIBYTE
    """The largest JSON body that is held in memory; other bodies are streamed and have no limit."""

    max_bodies_bytes: int = 256 * MEBIBYTE
    """What all connections together may have sent that no function has taken yet."""

    max_unread_bytes: int = 256 * MEBIBYTE
    """What all clients together may leave unread of their answers."""

    silence_s: float = 60.0
    """How long a head may take, and how long a body or an answer may fall behind `rate`."""

    keep_alive_s: float = 75.0
    rate: int = 16 * 1024
    """Bytes per second that a body must bring, and that a client must take of its answer, on average."""


class Budget:
    """Bytes that all connections together may hold."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Count the bytes; False when that is more than there may be (they are counted all the same)."""
        self.used += size
        return self.used <= self.limit

    def give(self, size: int) -> None:
        """The bytes are gone."""
        self.used -= size
