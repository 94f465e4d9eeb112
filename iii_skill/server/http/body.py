"""The body of a request: collected whole for a function, or passed on as it comes to whoever reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from iii_skill.engine.channel import Channel

CHUNK = 64 * 1024
"""The largest binary message that SDKs send and are sent, and so much of a body waits for a reader."""


class BodySource(Protocol):
    """Where a body comes from."""

    def want_body(self) -> None:
        """Somebody takes the body: let it come."""

    def hold_body(self) -> None:
        """Nobody takes it as fast as it comes: let it wait."""


class Body:
    """A body on its way. It is the writing end of the channel `request_body` once somebody reads that.

    Without a reader and without `collect` the first part of it waits, and the client with the rest.
    """

    __slots__ = ("_channel", "_collected", "_dropped", "_limit", "_parts", "_source", "held", "size", "whole")

    def __init__(self, source: BodySource | None) -> None:
        self._source = source
        self._parts: deque[bytes | memoryview] = deque()
        self._channel: Channel | None = None
        self._collected: Callable[[], None] | None = None
        self._limit = 0
        self._dropped = False
        self.size = 0
        self.held = 0
        """Bytes of it that are in memory."""
        self.whole = False
        """True when the client has sent all of it."""

    @classmethod
    def kept(cls, data: bytes | memoryview) -> Body:
        """A body that is complete already."""
        body = cls(None)
        if data:
            body._parts.append(data)
        body.size = body.held = len(data)
        body.whole = True
        return body

    # What the connection calls.

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        self.size += len(data)
        if self._dropped:
            return
        self._parts.append(data)
        self.held += len(data)
        if self._collected is not None:
            if self.size > self._limit:
                self._end_collecting()
            return
        if self._channel is not None:
            self._pass_on()
        if self.held >= CHUNK and self._source is not None:
            self._source.hold_body()

    def end(self) -> None:
        """That was all of it."""
        self.whole = True
        if self._collected is not None:
            self._end_collecting()
        elif self._channel is not None:
            self._pass_on()

    # What takes it.

    def collect(self, limit: int, collected: Callable[[], None]) -> None:
        """Keep all of it, and call when it is `whole`, or longer than the limit and then not whole."""
        self._limit = limit
        self._collected = collected
        if self._source is not None:
            self._source.want_body()

    def take(self) -> bytes:
        """What was collected, which is given away."""
        parts, self._parts = self._parts, deque()
        self.held = 0
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def open(self) -> Channel:
        """The channel on which it is read."""
        channel = self._channel = Channel()
        channel.attach_writer(self)
        if self._source is not None:
            self._source.want_body()
        self._pass_on()
        return channel

    def leave(self) -> None:
        """The request is over. Half a body never looks like a whole one; a whole one is read to its end."""
        self._source = None
        self._collected = None
        if self.whole and self._channel is not None and not self._dropped:
            return
        self._drop()
        if self._channel is not None:
            self._channel.abort()
            self._channel = None

    # What the channel calls.

    def resume(self) -> None:
        """The reader has room again."""
        self._pass_on()
        if not self.whole and self.held < CHUNK and self._source is not None:
            self._source.want_body()

    def dropped(self) -> None:
        """Nobody reads any more: what is left of the body is thrown away as it comes."""
        self._drop()
        self._channel = None
        if self._source is not None:
            self._source.want_body()

    def _drop(self) -> None:
        self._dropped = True
        self._parts.clear()
        self.held = 0

    def _end_collecting(self) -> None:
        collected, self._collected = self._collected, None
        assert collected is not None
        collected()

    def _pass_on(self) -> None:
        """Send on as long as the channel has room; finish it after the last part."""
        channel = self._channel
        if channel is None:
            return
        while self._parts and not channel.full:
            part = self._parts.popleft()
            if len(part) > CHUNK:
                self._parts.appendleft(memoryview(part)[CHUNK:])
                part = memoryview(part)[:CHUNK]
            self.held -= len(part)
            channel.send(bytes(part))
            if self._channel is None:
                # The reader left while it was told.
                return
        if self.whole and not self._parts:
            self._channel = None
            channel.finish()
