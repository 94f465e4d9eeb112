"""The worker port: WebSocket connections of workers, of their telemetry and of channels."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec
from picows import (
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from iii_skill.engine.dispatch import Dispatcher
from iii_skill.engine.engine import Engine
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.server import worker_logs
from iii_skill.server.channel_sockets import CHANNELS, channel_inflow, channel_listener
from iii_skill.server.guard import Guard
from iii_skill.server.inflow import Inflow
from iii_skill.server.listen import Listeners, listen
from iii_skill.server.message_socket import READER_LOG, MessageSocket
from iii_skill.server.telemetry import Forwarder
from iii_skill.server.worker_socket import Sockets, WorkerSocket

if TYPE_CHECKING:
    from multidict import CIMultiDict

logger = logging.getLogger(__name__)

CAPABILITIES = "x-iii-capabilities"

VERSION = "13"
"""The only version of WebSocket there is."""


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how the worker port listens."""

    host: str
    port: int
    grace_s: float = 5.0
    handshake_timeout_s: float = 10.0


class TelemetrySocket(MessageSocket):
    """Telemetry: read and handed on, never answered."""

    def __init__(self, take: Callable[[bytes, object], None], inflow: Inflow) -> None:
        super().__init__(inflow)
        self._take = take

    def text_received(self, text: bytes, last_in_buffer: bool) -> None:
        """A frame that was sent as a text."""
        self._take(text, self)

    def binary_received(self, data: bytes) -> None:
        """A frame."""
        self._take(data, self)


class WorkerServer:
    """The listening worker port."""

    def __init__(
        self, engine: Engine, listening: Listening, guard: Guard, *, forwarder: Forwarder | None = None
    ) -> None:
        self.engine = engine
        self.listening = listening
        self.sockets = Sockets()
        self._forwarder = forwarder
        self._logs = worker_logs.WorkerLogs()
        self.sockets.telemetry = self._take_telemetry
        self._dispatcher = Dispatcher(engine)
        self.port = listening.port
        self._guard = guard
        self._channel_inflow = channel_inflow()
        self._listeners: Listeners | None = None
        self._stopping = False

    async def start(self) -> None:
        """Listen; raises PortTaken, or ConfigurationError for an address that is not this machine's."""
        listening = self.listening

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await ws_create_server(
                self._accept,
                sock=bound,
                websocket_handshake_timeout=listening.handshake_timeout_s,
                max_frame_size=MESSAGE_LIMIT,
                logger_name=READER_LOG,
                enable_auto_pong=False,
                enable_auto_ping=True,
                auto_ping_idle_timeout=60,
                auto_ping_reply_timeout=60,
            )

        self._listeners = await listen(serve, listening.host, listening.port, option="--port")
        self.port = self._listeners.port

    @property
    def url(self) -> str:
        """Where workers connect."""
        assert self._listeners is not None, "it does not listen yet"
        return f"ws://{self._listeners.host}:{self._listeners.port}"

    def stop_accepting(self) -> None:
        """Take no new connection; those that stand go on."""
        self._stopping = True
        if self._listeners is not None:
            self._listeners.close()

    async def stop(self, code: int, reason: str) -> None:
        """Close every connection with `code`, waiting up to a second for what is on its way."""
        self.stop_accepting()
        self.sockets.close(code, reason)
        if self.sockets:
            try:
                await asyncio.wait_for(self.sockets.empty.wait(), 1.0)
            except TimeoutError:
                logger.warning("%d worker(s) did not take the end of the connection", len(self.sockets))

    def _take_telemetry(self, frame: bytes, sender: object) -> None:
        """What workers log is shown here too; all goes to the collector, if there is one."""
        if frame.startswith(worker_logs.PREFIX):
            self._logs.take(frame, sender)
        if self._forwarder is not None:
            self._forwarder.take(frame)

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        if self._stopping:
            # It came before the end of listening; nobody would ever close what it opens.
            return _refuse(503, "the host is stopping")
        target = request.path.decode("latin-1")
        refused = admitted(request, self._guard, paths=("/", "/otel"), without_token=CHANNELS)
        if refused is not None:
            return refused[0]
        path = urlsplit(target).path
        if path.startswith(CHANNELS):
            found = channel_listener(target, self.engine.channels, self._channel_inflow)
            return _upgraded(found) if isinstance(found, WSListener) else _refuse(*found)
        if path == "/otel":
            return _upgraded(TelemetrySocket(self._take_telemetry, self.sockets.inflow))
        grace_s = self.listening.grace_s
        return _upgraded(WorkerSocket(self.engine, self._dispatcher, self.sockets, grace_s=grace_s))


def _upgraded(listener: WSListener) -> WSUpgradeResponseWithListener:
    """Let in, with what this port can do: no socket of ours delays small messages."""
    response: Callable[..., WSUpgradeResponse] = WSUpgradeResponse.create_101_response
    return WSUpgradeResponseWithListener(response(extra_headers={CAPABILITIES: "tcp-nodelay"}), listener)


def admitted(
    request: WSUpgradeRequest, guard: Guard, *, paths: Sequence[str], without_token: str | None = None
) -> tuple[WSUpgradeResponseWithListener | None] | None:
    """None for a handshake that may go on, else the answer to it (None in it: 404).

    `without_token` begins the paths that are their own secret.
    """
    try:
        url = urlsplit(request.path.decode("latin-1"))
    except ValueError:
        return (None,)
    headers = request.headers
    reason = twice(headers)
    if reason is not None:
        return (_refuse(400, reason),)
    query_token = parse_qs(url.query).get("token", [""])[0]
    reason = guard.refusal(headers.get("host"), headers.get("origin"), headers, query_token)
    if reason is not None:
        return (_refuse(403, reason),)
    is_secret = without_token is not None and url.path.startswith(without_token)
    if not is_secret and url.path not in paths:
        return (None,)
    if not is_secret and not guard.has_token(headers, query_token):
        logger.warning("a connection without the right token was refused")
        return (_refuse(401, "This host wants a token: set III_TOKEN, or connect with ?token=…"),)
    # A channel is taken when it is opened: so nothing that is no upgrade may come to it.
    refusal = no_upgrade(headers)
    return None if refusal is None else (refusal,)


def twice(headers: CIMultiDict[str]) -> str | None:
    """Why a request that says different things under one name is refused; None: it does not."""
    for name in ("Host", "Origin", "Authorization", "Sec-WebSocket-Key", "Sec-WebSocket-Version"):
        if len(headers.getall(name, ())) > 1:
            return f"{name} stands there more than once"
    return None


def no_upgrade(headers: CIMultiDict[str]) -> WSUpgradeResponseWithListener | None:
    """The answer to what is no WebSocket handshake (RFC 6455, 4.2.1), None for what is one.

    Several lines of one name are one list (RFC 9110, 5.3). picows compares whole values, so what passes is
    written down the way it wants it.
    """
    if "upgrade" not in _listed(headers, "Connection") or "websocket" not in _listed(headers, "Upgrade"):
        return _refuse(400, "this port takes WebSocket connections: Upgrade: websocket is missing")
    if headers.get("Sec-WebSocket-Version") != VERSION:
        return _refuse(426, "this port speaks version 13 of WebSocket", {"Sec-WebSocket-Version": VERSION})
    headers["Connection"], headers["Upgrade"] = "Upgrade", "websocket"
    return None


def _listed(headers: CIMultiDict[str], name: str) -> set[str]:
    """The members of a header field that is a list, in lower case."""
    lines = ",".join(headers.getall(name, ()))
    return {member.strip(" \t").lower() for member in lines.split(",")}


def _refuse(
    status: int, reason: str, headers: Mapping[str, str] | None = None
) -> WSUpgradeResponseWithListener:
    response: Callable[..., WSUpgradeResponse] = WSUpgradeResponse.create_error_response
    return WSUpgradeResponseWithListener(response(status, reason.encode(), headers), None)
