"""The WebSocket port of a companion: the guard of the host in front, whole messages behind."""

from __future__ import annotations

import asyncio
import logging
import socket
from urllib.parse import parse_qs, urlsplit

import msgspec
from picows import WSListener, WSMsgType, WSUpgradeRequest, WSUpgradeResponseWithListener, ws_create_server

from iii_skill.server.guard import Guard
from iii_skill.server.inflow import Inflow
from iii_skill.server.listen import Listeners, listen
from iii_skill.server.message_socket import READER_LOG, MessageSocket
from iii_skill.server.worker_port import admitted
from iii_skill.websockets import WebSocketHandler, WebSocketPort, WebSocketRequest

logger = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024 * 1024
"""Bytes of one message of a client."""

UNREAD_LIMIT = 4 * 1024 * 1024
"""Bytes that a client may leave unread."""

TRY_AGAIN_LATER = 1013
_HANDSHAKE_S = 10.0


class CompanionSocket(MessageSocket):
    """One connection; a WebSocketPeer by structure."""

    limit = MESSAGE_LIMIT

    def __init__(self, handler: WebSocketHandler, request: WebSocketRequest, port: CompanionServer) -> None:
        super().__init__(port.inflow)
        self.request = request
        self._handler = handler
        self._port = port

    def opened(self) -> None:
        """The handshake is done."""
        self._port.sockets.add(self)
        peer = self.underlying.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.request = msgspec.structs.replace(self.request, address=f"{peer[0]}:{peer[1]}")
        self._handler.opened(self)

    def text_received(self, text: bytes, last_in_buffer: bool) -> None:
        """A whole text."""
        self._handler.received(text)

    def binary_received(self, data: bytes) -> None:
        """Binary messages mean the same as texts."""
        self._handler.received(data)

    def closed(self) -> None:
        """The connection is gone."""
        self._port.sockets.discard(self)
        self._handler.closed()

    def send(self, text: bytes) -> None:
        """Send a text, unless the client has left too much unread."""
        if self.closing:
            return
        if self.underlying.get_write_buffer_size() > UNREAD_LIMIT:
            self.close(TRY_AGAIN_LATER, "messages come faster than they are read")
            return
        self.transport.send(WSMsgType.TEXT, text)


class CompanionServer:
    """The listening port."""

    def __init__(self, wanted: WebSocketPort, guard: Guard, *, address: str, port: int) -> None:
        self.sockets: set[CompanionSocket] = set()
        self.inflow = Inflow()
        self._wanted = wanted
        self._guard = guard
        self._address = wanted.host or address
        self._port = port
        self._listeners: Listeners | None = None

    async def start(self) -> None:
        """Listen; raises PortTaken or ConfigurationError."""

        async def serve(bound: socket.socket) -> asyncio.Server:
            return await ws_create_server(
                self._accept,
                sock=bound,
                websocket_handshake_timeout=_HANDSHAKE_S,
                max_frame_size=MESSAGE_LIMIT,
                logger_name=READER_LOG,
                enable_auto_pong=False,
                enable_auto_ping=True,
                auto_ping_idle_timeout=60,
                auto_ping_reply_timeout=60,
            )

        option = f"the setting `port` of {self._wanted.name}"
        self._listeners = await listen(serve, self._address, self._port, option=option)
        self._wanted.url = f"ws://{self._listeners.host}:{self._listeners.port}"

    def stop(self, code: int, reason: str) -> None:
        """Take nothing new and close what is open."""
        if self._listeners is not None:
            self._listeners.close()
        for one in list(self.sockets):
            one.close(code, reason)

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener | None:
        target = request.path.decode("latin-1")
        refused = admitted(request, self._guard, paths=("/",))
        if refused is not None:
            return refused[0]
        url = urlsplit(target)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = WebSocketRequest(url.path, parse_qs(url.query, keep_blank_values=True), headers, "")
        return CompanionSocket(self._wanted.handler(asked), asked, self)
