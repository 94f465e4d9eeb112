"""A WebSocket port of a companion: what it asks the host to open, and what it gets of each connection."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Protocol

import msgspec


class WebSocketRequest(msgspec.Struct, frozen=True):
    """The request that opened a connection; names of headers are in lower case."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    address: str
    """Address and port of the client."""


class WebSocketPeer(Protocol):
    """The other end of one connection."""

    request: WebSocketRequest

    def send(self, text: bytes) -> None:
        """Send a text; a client that does not read what it is sent is closed with 1013."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection."""


class WebSocketHandler(abc.ABC):
    """One connection as a companion sees it; all methods are called on the event loop."""

    @abc.abstractmethod
    def opened(self, peer: WebSocketPeer) -> None:
        """The connection is there."""

    @abc.abstractmethod
    def received(self, text: bytes) -> None:
        """A whole message, text or binary."""

    @abc.abstractmethod
    def closed(self) -> None:
        """The connection is gone."""


class WebSocketPort(msgspec.Struct, kw_only=True):
    """A port that a companion wants open while the host serves."""

    name: str
    """What messages call it: `streams`."""
    port: int
    host: str | None = None
    """None: where the worker port listens."""
    chosen: bool = False
    """True when somebody asked for this very port: then the host does not start without it."""
    handler: Callable[[WebSocketRequest], WebSocketHandler]
    url: str | None = None
    """Where it listens, once it does."""
