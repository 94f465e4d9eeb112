"""Channel sockets: `/ws/channels/{id}?key=&dir=` on the worker port, one socket for one end of a channel."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import parse_qs, urlsplit

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from iii_skill.engine.channel import Channel, Direction
from iii_skill.engine.channels import Channels

logger = logging.getLogger(__name__)

PREFIX = "/ws/channels/"
MESSAGE_LIMIT = 16 * 1024 * 1024
CLOSE_WAIT_S = 30.0
SWEEP_AFTER_S = 0.05
WRITER_LOST = b"channel writer aborted: connection lost before close"
"""What a reader is told after the messages of a writer that did not close."""


def channel_listener(target: str, channels: Channels) -> WSListener | tuple[int, str]:
    """The listener for an upgrade request of that path and query, or status and text of a refusal."""
    url = urlsplit(target)
    query = parse_qs(url.query)
    channel = channels.find(url.path.removeprefix(PREFIX), query.get("key", [""])[0])
    if channel is None:
        return 404, "Channel not found"
    direction = query.get("dir", [""])[0]
    if direction not in (Direction.READ.value, Direction.WRITE.value):
        return 400, "dir must be read or write"
    listener: ReaderSocket | WriterSocket
    if direction == Direction.READ.value:
        listener = ReaderSocket(channel, channels)
        free = channel.attach_reader(listener)
    else:
        listener = WriterSocket(channel, channels)
        free = channel.attach_writer(listener)
    return listener if free else Occupied()


class _ChannelSocket(WSListener):
    """What both ends share: the transport, the clean close, and the end of a channel that nobody joins."""

    def __init__(self, channel: Channel, channels: Channels) -> None:
        super().__init__()
        self._channel = channel
        self._channels = channels
        self._transport: WSTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The end is open; the other one has a limited time to come."""
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._channels.lifetime + SWEEP_AFTER_S, self._channels.sweep)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, transport: WSTransport) -> None:
        """Close; the timer now waits for the answer of the peer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = close_empty(transport)

    def _wait_for_close(self, transport: WSTransport) -> None:
        """A close with a code is on its way: wait for the answer as well."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_WAIT_S, transport.disconnect)

    def pause_writing(self) -> None:
        """The peer reads slower than we send."""

    def resume_writing(self) -> None:
        """The peer has caught up."""


class ReaderSocket(_ChannelSocket):
    """A worker that reads a channel. What it sends is ignored."""

    def __init__(self, channel: Channel, channels: Channels) -> None:
        super().__init__(channel, channels)
        self._paused = False
        self._done = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Send what is queued already."""
        super().on_ws_connected(transport)
        self.notify()

    def notify(self) -> None:
        """Send on as long as the socket takes it; close when the writer has ended."""
        transport = self._transport
        if transport is None or self._done:
            return
        channel = self._channel
        while not self._paused:
            message = channel.take()
            if message is None:
                break
            kind = WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY
            transport.send(kind, message)
        if channel.drained:
            self._done = True
            if channel.aborted:
                transport.disconnect(graceful=False)
            elif channel.lost:
                transport.send_close(WSCloseCode.INTERNAL_ERROR, WRITER_LOST)
                self._wait_for_close(transport)
            else:
                self._end(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Only a close counts."""
        if frame.msg_type != WSMsgType.CLOSE:
            return
        if self._done:
            transport.disconnect()
        else:
            answer_close(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The reader left."""
        super().on_ws_disconnected(transport)
        self._done = True
        self._channel.leave()

    def pause_writing(self) -> None:
        """Leave the rest in the queue: its bound holds the writer back."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self.notify()


class WriterSocket(_ChannelSocket):
    """A worker that writes a channel. Its socket is not read while the queue is full."""

    def __init__(self, channel: Channel, channels: Channels) -> None:
        super().__init__(channel, channels)
        self._parts: list[bytes] = []
        self._size = 0
        self._text = False
        self._waiting = False
        self._unread = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Queue a whole message; a close ends the channel after what is queued."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._channel.finish()
            answer_close(transport, frame)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._collect(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The writer has ended; without a close nobody knows whether that was all."""
        super().on_ws_disconnected(transport)
        self._channel.finish(lost=True)

    def resume(self) -> None:
        """The queue has room again."""
        if self._waiting and self._transport is not None:
            self._waiting = False
            self._transport.underlying_transport.resume_reading()

    def dropped(self) -> None:
        """Nobody reads any more: the next message ends the connection."""
        self._unread = True
        self.resume()

    def _collect(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._unread:
            transport.disconnect(graceful=False)
            return
        if frame.msg_type != WSMsgType.CONTINUATION:
            self._text = frame.msg_type == WSMsgType.TEXT
            self._parts.clear()
            self._size = 0
        self._parts.append(frame.get_payload_as_bytes())
        self._size += frame.payload_size
        if self._size > MESSAGE_LIMIT:
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG, f"the limit is {MESSAGE_LIMIT} bytes".encode())
            transport.disconnect()
            return
        if not frame.fin:
            return
        payload = b"".join(self._parts)
        self._parts.clear()
        if self._text:
            try:
                more = self._channel.send(payload.decode())
            except UnicodeDecodeError:
                transport.send_close(WSCloseCode.INVALID_TEXT, b"a text message is not UTF-8")
                transport.disconnect()
                return
        else:
            more = self._channel.send(payload)
        if not more and not self._waiting:
            self._waiting = True
            transport.underlying_transport.pause_reading()


class Occupied(WSListener):
    """A second opener of one end: upgraded, then closed."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Close at once."""
        self._timer = close_empty(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Only a close counts."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The socket is gone."""
        self._timer.cancel()


def close_empty(transport: WSTransport) -> asyncio.TimerHandle:
    """Send a close frame without a code.

    The connection ends when the peer answers: closing it earlier could cost the peer what it has not read
    yet. The timer ends it when no answer comes.
    """
    transport.send(WSMsgType.CLOSE, b"")
    return asyncio.get_running_loop().call_later(CLOSE_WAIT_S, transport.disconnect)


def answer_close(transport: WSTransport, frame: WSFrame) -> None:
    """Echo the close of the peer, then end the connection."""
    if frame.payload_size:
        transport.send_close(frame.get_close_code())
    else:
        transport.send(WSMsgType.CLOSE, b"")
    transport.disconnect()
