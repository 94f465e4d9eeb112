"""Channel sockets: `/ws/channels/{id}?key=&dir=` on the worker port, one socket for one end of a channel."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from picows import WSListener, WSMsgType

from iii_skill.engine.channel import Channel, Direction
from iii_skill.engine.channels import Channels
from iii_skill.server.inflow import Inflow
from iii_skill.server.message_socket import INTERNAL_ERROR, MESSAGE_TOO_BIG, MessageSocket

CHANNELS = "/ws/channels/"
MESSAGE_LIMIT = 16 * 1024 * 1024
SWEEP_AFTER_S = 0.05
WRITER_LOST = "channel writer aborted: connection lost before close"
"""What a reader is told after the messages of a writer that did not close."""

TURNS = 8
"""Channels that may hold more than LONG bytes at a time."""

LONG = 1024 * 1024


def channel_inflow() -> Inflow:
    """What bounds the bytes of all channels of a port together."""
    return Inflow(turns=TURNS, long=LONG)


def channel_listener(target: str, channels: Channels, inflow: Inflow) -> WSListener | tuple[int, str]:
    """The listener for an upgrade request of that path and query, or status and text of a refusal."""
    url = urlsplit(target)
    query = parse_qs(url.query)
    channel = channels.find(url.path.removeprefix(CHANNELS), query.get("key", [""])[0])
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
        listener = WriterSocket(channel, channels, inflow)
        free = channel.attach_writer(listener)
    return listener if free else Occupied()


class _ChannelSocket(MessageSocket):
    """What both ends share: the end of a channel that nobody joins."""

    limit = MESSAGE_LIMIT

    def __init__(self, channel: Channel, channels: Channels, inflow: Inflow | None = None) -> None:
        super().__init__(inflow)
        self._channel = channel
        self._channels = channels
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """The end is open; the other one has a limited time to come."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._channels.lifetime + SWEEP_AFTER_S, self._channels.sweep)

    def closed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The peer reads slower than we send."""

    def resume_writing(self) -> None:
        """The peer has caught up."""


class ReaderSocket(_ChannelSocket):
    """A worker that reads a channel. What it sends is ignored."""

    keeps = False

    def __init__(self, channel: Channel, channels: Channels) -> None:
        super().__init__(channel, channels)
        self._open = False
        self._paused = False

    def opened(self) -> None:
        """Send what is queued already."""
        super().opened()
        self._open = True
        self.notify()

    def notify(self) -> None:
        """Send on as long as the socket takes it; close when the writer has ended."""
        if not self._open or self.closing:
            return
        channel = self._channel
        while not self._paused:
            message = channel.take()
            if message is None:
                break
            kind = WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY
            self.transport.send(kind, message)
        if channel.drained:
            if channel.aborted:
                self.transport.disconnect(graceful=False)
            elif channel.lost:
                self.fail(INTERNAL_ERROR, WRITER_LOST)
            else:
                self.close_empty()

    def closed(self) -> None:
        """The reader left."""
        super().closed()
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

    def __init__(self, channel: Channel, channels: Channels, inflow: Inflow) -> None:
        super().__init__(channel, channels, inflow)
        self._unread = False

    def text_received(self, text: bytes, last_in_buffer: bool) -> None:
        if len(text) > MESSAGE_LIMIT:
            self.fail(MESSAGE_TOO_BIG, f"the limit is {MESSAGE_LIMIT} bytes")
        elif self._unread:
            self.transport.disconnect(graceful=False)
        else:
            self._queued(full=not self._channel.send(text.decode()))

    def binary_received(self, data: bytes) -> None:
        if self._unread:
            self.transport.disconnect(graceful=False)
        else:
            self._queued(full=not self._channel.send(data))

    def ended(self) -> None:
        """The writer has sent everything."""
        self._channel.finish()

    def closed(self) -> None:
        """The writer has ended; without a close nobody knows whether that was all."""
        super().closed()
        self._channel.finish(lost=True)

    @property
    def kept(self) -> int:
        """Bytes of fragments and of the queue."""
        return super().kept + self._channel.bytes_queued

    @property
    def stalled_by_peer(self) -> bool:
        """True also when nobody reads the channel."""
        return super().stalled_by_peer or self._channel.reader is None

    def resume(self) -> None:
        """The queue has room again."""
        self.release("queue")
        self.note_kept()

    def dropped(self) -> None:
        """Nobody reads any more: the next message ends the connection."""
        self._unread = True
        self.resume()

    def _queued(self, *, full: bool) -> None:
        if full:
            self.hold("queue")
        self.note_kept()


class Occupied(MessageSocket):
    """A second opener of one end: upgraded, then closed."""

    keeps = False

    def opened(self) -> None:
        """Close at once."""
        self.close_empty()
