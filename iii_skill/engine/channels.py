"""Channels: a bounded queue of messages from one writer to one reader, opened by id and key.

Rules: each end is taken once. Messages pass in order. `send` returns False when the queue is full; the
writer then waits for `resume`. The reader is told with `notify` and takes messages when it likes. When the
writer finishes, the reader drains what is left; when the reader leaves, the writer is told with `dropped`.
A channel whose ends have not met after `lifetime` seconds is closed.
"""

from __future__ import annotations

import hmac
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Protocol, TypeAlias

import msgspec

from iii_skill.engine.calls import Call
from iii_skill.engine.ids import token
from iii_skill.errors import InputError

Message: TypeAlias = str | bytes
"""A text or a binary message."""

MAX_BUFFERED_BYTES = 4 * 1024 * 1024
"""A queue is also full when it holds this many bytes, however few its messages are."""

LIFETIME = 300.0


class Direction(Enum):
    """Which end of a channel."""

    READ = "read"
    WRITE = "write"


class Writer(Protocol):
    """The writing end, as the channel sees it."""

    def resume(self) -> None:
        """The queue has room again."""

    def dropped(self) -> None:
        """The reader left or the channel is gone: nothing more will be taken."""


class Reader(Protocol):
    """The reading end, as the channel sees it."""

    def notify(self) -> None:
        """There is a message to take, or the channel ended."""


class Channel:
    """One channel. `finished` and `aborted` say how the writer ended."""

    __slots__ = (
        "aborted",
        "buffer_size",
        "bytes_queued",
        "finished",
        "full",
        "left",
        "on_end",
        "queue",
        "reader",
        "writer",
    )

    def __init__(self, buffer_size: int = 64, *, on_end: Callable[[], None] | None = None) -> None:
        self.buffer_size = buffer_size
        self.queue: deque[Message] = deque()
        self.bytes_queued = 0
        self.writer: Writer | None = None
        self.reader: Reader | None = None
        self.finished = False
        self.aborted = False
        self.left = False
        self.full = False
        self.on_end = on_end

    @property
    def drained(self) -> bool:
        """True when the writer has ended and the reader has taken everything."""
        return self.finished and not self.queue

    def attach_writer(self, writer: Writer) -> bool:
        """Take the writing end; False when it was taken before."""
        if self.writer is not None:
            return False
        self.writer = writer
        return True

    def attach_reader(self, reader: Reader) -> bool:
        """Take the reading end; False when it was taken before."""
        if self.reader is not None:
            return False
        self.reader = reader
        if self.drained:
            self._end()
        return True

    def send(self, message: Message) -> bool:
        """Queue a message; False when the writer should wait for `resume` before the next one."""
        if self.left or self.finished:
            return True
        self.queue.append(message)
        self.bytes_queued += len(message)
        if self.reader is not None:
            self.reader.notify()
        self.full = len(self.queue) >= self.buffer_size or self.bytes_queued >= MAX_BUFFERED_BYTES
        return not self.full

    def finish(self) -> None:
        """The writer has sent everything."""
        if self.finished:
            return
        self.finished = True
        if self.reader is not None:
            self.reader.notify()
        if self.left or (self.reader is not None and not self.queue):
            self._end()

    def abort(self) -> None:
        """The writer cannot complete what it began: the reader ends without a clean close."""
        if self.finished:
            return
        self.aborted = True
        self._clear()
        self.finish()

    def take(self) -> Message | None:
        """The next message; None when there is none now, or none will come (`drained`)."""
        if not self.queue:
            return None
        message = self.queue.popleft()
        self.bytes_queued -= len(message)
        roomy = len(self.queue) * 2 <= self.buffer_size and self.bytes_queued * 2 <= MAX_BUFFERED_BYTES
        if self.full and roomy:
            self.full = False
            if self.writer is not None:
                self.writer.resume()
        if self.finished and not self.queue:
            self._end()
        return message

    def leave(self) -> None:
        """The reader takes nothing more."""
        if self.left:
            return
        self.left = True
        self._clear()
        if self.writer is not None and not self.finished:
            self.writer.dropped()
        self._end()

    def _clear(self) -> None:
        self.queue.clear()
        self.bytes_queued = 0
        self.full = False

    def _end(self) -> None:
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end()


class Entry(msgspec.Struct):
    """A channel that can be opened, or what makes it when somebody does."""

    access_key: str
    make: Callable[[], Channel]
    born: float = inf
    channel: Channel | None = None

    def open(self) -> Channel:
        """The channel itself."""
        if self.channel is None:
            self.channel = self.make()
        return self.channel


class CreateInput(msgspec.Struct):
    """The payload of `engine::channels::create`."""

    buffer_size: int | None = None


class Channels:
    """All channels by id. The key of a channel grants both directions."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, lifetime: float = LIFETIME) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self._entries: dict[str, Entry] = {}
        self._swept = clock()

    def __len__(self) -> int:
        return len(self._entries)

    def create(self, buffer_size: int = 64) -> tuple[str, str]:
        """A new channel; gives back id and key. `buffer_size` is clamped to 1 … 1024 messages."""
        self.sweep_sometimes()
        channel_id, access_key = mint()
        size = min(max(buffer_size, 1), 1024)
        channel = Channel(size, on_end=lambda: self.withdraw(channel_id))
        self._entries[channel_id] = Entry(access_key, lambda: channel, self._clock(), channel)
        return channel_id, access_key

    def offer(self, channel_id: str, access_key: str, make: Callable[[], Channel]) -> None:
        """Let somebody open a channel that is only made then; whoever offers it withdraws it."""
        self._entries[channel_id] = Entry(access_key, make)

    def withdraw(self, channel_id: str) -> None:
        """Nobody can open the channel any more; ends that are open stay open."""
        self._entries.pop(channel_id, None)

    def find(self, channel_id: str, access_key: str) -> Channel | None:
        """The channel, or None when id or key is wrong."""
        entry = self._entries.get(channel_id)
        if entry is None or not hmac.compare_digest(entry.access_key.encode(), access_key.encode()):
            return None
        return entry.open()

    def sweep_sometimes(self) -> None:
        """Sweep when the last time is a tenth of a lifetime ago."""
        if self._clock() - self._swept >= self.lifetime / 10:
            self.sweep()

    def sweep(self) -> None:
        """Close the channels whose ends have not met in time."""
        self._swept = now = self._clock()
        for channel_id, entry in list(self._entries.items()):
            channel = entry.channel
            if now - entry.born < self.lifetime or channel is None:
                continue
            if channel.writer is not None and channel.reader is not None:
                continue
            self.withdraw(channel_id)
            channel.leave()
            channel.abort()

    def handle_create(self, call: Call) -> None:
        """The function `engine::channels::create`."""
        try:
            size = msgspec.json.decode(call.data, type=CreateInput).buffer_size
        except msgspec.MsgspecError as error:
            call.fail(InputError(f"Failed to deserialize input for engine::channels::create: {error}"))
            return
        channel_id, access_key = self.create(64 if size is None else size)
        call.succeed(
            b'{"writer":%b,"reader":%b}'
            % (
                reference(channel_id, access_key, Direction.WRITE),
                reference(channel_id, access_key, Direction.READ),
            )
        )


def mint() -> tuple[str, str]:
    """A fresh id and key."""
    return token(), token()


def reference(channel_id: str, access_key: str, direction: Direction) -> bytes:
    """A channel reference as encoded JSON, which SDKs turn into a reader or writer."""
    return b'{"channel_id":"%b","access_key":"%b","direction":"%b"}' % (
        channel_id.encode(),
        access_key.encode(),
        direction.value.encode(),
    )
