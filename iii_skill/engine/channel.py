"""Channel: a bounded queue of messages from one writer to one reader.

Rules: each end is taken once. Messages pass in order. `send` returns False when the queue is full; the
writer then waits for `resume`. The reader is told with `notify` and takes messages when it likes. When the
writer finishes, the reader drains what is left; when the reader leaves, the writer is told with `dropped`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol, TypeAlias

Message: TypeAlias = str | bytes
"""A text or a binary message."""

MAX_BUFFERED_BYTES = 4 * 1024 * 1024
"""A queue is also full when it holds this many bytes, however few its messages are."""


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


class ChannelReader(Protocol):
    """The reading end, as the channel sees it."""

    def notify(self) -> None:
        """There is a message to take, or the channel ended."""


class _Gone:
    """An end that was taken and is not there any more: the channel holds nobody who is done with it."""

    def resume(self) -> None:
        """Nobody waits."""

    def dropped(self) -> None:
        """Nobody writes."""

    def notify(self) -> None:
        """Nobody reads."""


_GONE = _Gone()


class Channel:
    """One channel. `finished`, `lost` and `aborted` say how the writer ended."""

    __slots__ = (
        "aborted",
        "buffer_size",
        "bytes_queued",
        "finished",
        "full",
        "left",
        "lost",
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
        self.reader: ChannelReader | None = None
        self.finished = False
        self.aborted = False
        self.lost = False
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

    def attach_reader(self, reader: ChannelReader) -> bool:
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

    def finish(self, *, lost: bool = False) -> None:
        """The writer has ended; `lost`: its connection did, and more may have been meant to come."""
        if self.finished:
            return
        self.finished, self.lost = True, lost
        if self.reader is not None:
            self.reader.notify()
        self.writer = _GONE
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
        self.writer = self.reader = _GONE
        self._end()

    def expire(self) -> None:
        """Its ends have not met in time: both are told that it is over."""
        reader = self.reader
        self.leave()
        self.aborted = self.finished = True
        if reader is not None:
            reader.notify()

    def _clear(self) -> None:
        self.queue.clear()
        self.bytes_queued = 0
        self.full = False

    def _end(self) -> None:
        self.writer = self.reader = _GONE
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            on_end()
