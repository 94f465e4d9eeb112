"""The worker port: WebSocket connections of workers, of their telemetry and of channels."""

from __future__ import annotations

import asyncio
import errno
import logging
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
from iii_skill.errors import ConfigurationError, PortTaken
from iii_skill.server.channel_sockets import channel_listener
from iii_skill.server.frames import QUIET
from iii_skill.server.guard import Guard
from iii_skill.server.worker_socket import Sockets, WorkerSocket

logger = logging.getLogger(__name__)


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
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises PortTaken, or ConfigurationError for an address that is not this machine's."""
        listening = self.listening
        try:
            self._server = await ws_create_server(
                self._accept,
                listening.host,
                listening.port,
                websocket_handshake_timeout=listening.handshake_timeout_s,
                max_frame_size=MESSAGE_LIMIT,
                logger_name=QUIET,
                enable_auto_ping=True,
                auto_ping_idle_timeout=60,
                auto_ping_reply_timeout=60,
            )
        except OSError as error:
            raise listen_error(error, listening.host, listening.port, "--port") from None
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_accepting(self) -> None:
        """Take no new connection; those that stand go on."""
        if self._server is not None:
            self._server.close()

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
            return found if isinstance(found, WSListener) else _refuse(*found)
        if url.path not in ("/", "/otel"):
            return None
        if not self._guard.has_token(headers, query_token):
            logger.warning("a connection without the right token was refused")
            return _refuse(401, "This host wants a token: set III_TOKEN, or connect with ?token=…")
        if url.path == "/otel":
            return _Drain()
        return WorkerSocket(self.engine, self._dispatcher, self.sockets, grace_s=self.listening.grace_s)


def listen_error(error: OSError, host: str, port: int, option: str) -> ConfigurationError:
    """One sentence for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"Port {port} on {host} is taken by another program; choose another with {option} N "
            f"({option} 0 picks a free one)."
        )
    if error.errno == errno.EACCES:
        return PortTaken(f"Port {port} needs rights that this user does not have; choose one above 1023.")
    if error.errno == errno.EADDRNOTAVAIL or "could not bind on any" in str(error):
        reason = "that is no address of this machine"
    else:
        reason = error.strerror or str(error)
    return ConfigurationError(
        f"Cannot listen on {host}: {reason}; choose one with --host (127.0.0.1 is this machine alone, "
        "0.0.0.0 every network)."
    )


def _refuse(status: int, reason: str) -> WSUpgradeResponseWithListener:
    response: Callable[..., WSUpgradeResponse] = WSUpgradeResponse.create_error_response
    return WSUpgradeResponseWithListener(response(status, reason.encode()), None)
