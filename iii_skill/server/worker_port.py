"""The worker port: WebSocket connections of workers, of their telemetry and of channels."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from iii_skill.engine.dispatch import Dispatcher
from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import MESSAGE_LIMIT
from iii_skill.server.channel_sockets import channel_listener
from iii_skill.server.frames import QUIET
from iii_skill.server.guard import Guard
from iii_skill.server.listen import Listeners, listen
from iii_skill.server.worker_socket import Sockets, WorkerSocket

logger = logging.getLogger(__name__)

CAPABILITIES = "x-iii-capabilities"


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how the worker port listens."""

    host: str
    port: int
    grace_s: float = 5.0
    handshake_timeout_s: float = 10.0


class _Drain(WSListener):
    """Telemetry: read and left alone, never answered."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Drop the frame; answer a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


class WorkerServer:
    """The listening worker port."""

    def __init__(self, engine: Engine, listening: Listening, guard: Guard) -> None:
        self.engine = engine
        self.listening = listening
        self.sockets = Sockets()
        self._dispatcher = Dispatcher(engine)
        self.port = listening.port
        self._guard = guard
        self._listeners: Listeners | None = None

    async def start(self) -> None:
        """Listen; raises PortTaken, or ConfigurationError for an address that is not this machine's."""
        listening = self.listening

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await ws_create_server(
                self._accept,
                sock=bound,
                websocket_handshake_timeout=listening.handshake_timeout_s,
                max_frame_size=MESSAGE_LIMIT,
                logger_name=QUIET,
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

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        try:
            url = urlsplit(request.path.decode("latin-1"))
        except ValueError:
            return None
        headers = request.headers
        query_token = parse_qs(url.query).get("token", [""])[0]
        reason = self._guard.refusal(headers.get("host"), headers.get("origin"), headers, query_token)
        if reason is not None:
            return _refuse(403, reason)
        if url.path.startswith("/ws/channels/"):
            found = channel_listener(request.path.decode("latin-1"), self.engine.channels)
            return _upgraded(found) if isinstance(found, WSListener) else _refuse(*found)
        if url.path not in ("/", "/otel"):
            return None
        if not self._guard.has_token(headers, query_token):
            logger.warning("a connection without the right token was refused")
            return _refuse(401, "This host wants a token: set III_TOKEN, or connect with ?token=…")
        if url.path == "/otel":
            return _upgraded(_Drain())
        grace_s = self.listening.grace_s
        return _upgraded(WorkerSocket(self.engine, self._dispatcher, self.sockets, grace_s=grace_s))


def _upgraded(listener: WSListener) -> WSUpgradeResponseWithListener:
    """Let in, with what this port can do: no socket of ours delays small messages."""
    response: Callable[..., WSUpgradeResponse] = WSUpgradeResponse.create_101_response
    return WSUpgradeResponseWithListener(response(extra_headers={CAPABILITIES: "tcp-nodelay"}), listener)


def _refuse(status: int, reason: str) -> WSUpgradeResponseWithListener:
    response: Callable[..., WSUpgradeResponse] = WSUpgradeResponse.create_error_response
    return WSUpgradeResponseWithListener(response(status, reason.encode()), None)
