"""One HTTP request on its way through functions: what settles it, and its two channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from iii_skill.calls import Outcome, Result
from iii_skill.engine.channel import Channel
from iii_skill.engine.channels import Channels
from iii_skill.engine.ids import token
from iii_skill.http.response import HeaderList, stream_headers
from iii_skill.server.http_io import Receive
from iii_skill.server.http_waiter import Waiter

CHUNK = 64 * 1024
"""The largest binary message that SDKs send and are sent."""


class Exchange(Waiter):
    """The call of a route's function, with `request_body` to read and `response` to write.

    The first of these settles it: an answer that is not null, a binary message on `response`, or its end.
    Both channels are made when somebody opens them.
    """

    __slots__ = (
        "_body",
        "_channels",
        "_first",
        "_ids",
        "_pump",
        "headers",
        "null",
        "on_null",
        "response",
        "status",
        "streaming",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channels: Channels,
        body: bytes | Receive,
    ) -> None:
        super().__init__(loop)
        self._ids = (token(), token(), token(), token())
        self._channels = channels
        self._body = body
        self._pump: BodyPump | None = None
        self._first: bytes | None = None
        self.response: Channel | None = None
        self.streaming = False
        self.null = False
        self.on_null: Callable[[], object] | None = None
        self.status = 200
        self.headers: HeaderList = []
        channels.offer(self._ids[0], self._ids[1], self._open_body)
        channels.offer(self._ids[2], self._ids[3], self._open_response)

    @property
    def settled(self) -> bool:
        """True when there is something to go on with."""
        return self.streaming or self.gone or self.outcome is not None

    def references(self) -> bytes:
        """The keys `request_body` and `response` of the payload, encoded."""
        body_id, body_key, response_id, response_key = self._ids
        return (
            f',"request_body":{{"channel_id":"{body_id}","access_key":"{body_key}","direction":"read"}}'
            f',"response":{{"channel_id":"{response_id}","access_key":"{response_key}","direction":"write"}}'
        ).encode()

    def reply(self, outcome: Outcome) -> None:
        """Take the outcome; after a null one the request waits for the `response` channel."""
        if type(outcome) is Result and (outcome.value is None or outcome.value == b"null"):
            self.null = True
            if self.on_null is not None:
                self.on_null()
            return
        super().reply(outcome)

    def notify(self) -> None:
        """`response` has a message, or has ended."""
        if self.settled:
            self.wake()
            return
        channel = self.response
        assert channel is not None
        while (message := channel.take()) is not None:
            if isinstance(message, bytes):
                self._first = message
                self.streaming = True
                self.wake()
                return
            self._control(message)
        if channel.drained:
            self.streaming = True
            self.wake()

    async def next_chunk(self) -> bytes | None:
        """The next part of a streamed answer; None at its end, or when the client is gone."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        channel = self.response
        assert channel is not None
        while not self.gone:
            message = channel.take()
            if isinstance(message, bytes):
                return message
            if message is None:
                if channel.drained:
                    return None
                await self.pause()
        return None

    def close(self) -> None:
        """The response is out, or nobody wants it: both references end."""
        self._channels.withdraw(self._ids[0])
        self._channels.withdraw(self._ids[2])
        if self.response is not None:
            self.response.leave()
        if self._pump is not None:
            self._pump.close(complete=not self.gone)

    def _open_response(self) -> Channel:
        self.response = Channel()
        self.response.attach_reader(self)
        return self.response

    def _open_body(self) -> Channel:
        channel = Channel()
        self._pump = BodyPump(self._loop, channel, self._body)
        return channel

    def _control(self, text: str) -> None:
        """`set_status` and `set_headers`; anything else is ignored."""
        try:
            message = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return
        if not isinstance(message, dict):
            return
        if message.get("type") == "set_status":
            status = message.get("status_code")
            if type(status) is int and 100 <= status <= 599:
                self.status = status
        elif message.get("type") == "set_headers" and isinstance(message.get("headers"), dict):
            pairs = message["headers"].items()
            self.headers = stream_headers({name: value for name, value in pairs if isinstance(value, str)})


class BodyPump:
    """The writing end of `request_body`: sends the body in small messages, as fast as they are taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel, body: bytes | Receive) -> None:
        self._channel = channel
        self._room = asyncio.Event()
        channel.attach_writer(self)
        self._task = loop.create_task(self._run(body))

    def resume(self) -> None:
        """There is room again."""
        self._room.set()

    def dropped(self) -> None:
        """Nobody reads: what is left of the body stays with the connection."""
        self._task.cancel()

    def close(self, *, complete: bool) -> None:
        """End the channel: cleanly after a response, without a close when the client left midway."""
        self._task.cancel()
        if complete:
            self._channel.finish()
        else:
            self._channel.abort()

    async def _run(self, body: bytes | Receive) -> None:
        if isinstance(body, bytes):
            await self._send(body)
        else:
            more = True
            while more:
                event = await body()
                if event["type"] != "http.request":
                    self._channel.abort()
                    return
                await self._send(event.get("body", b""))
                more = event.get("more_body", False)
        self._channel.finish()

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self._room.clear()
            if not self._channel.send(data[start : start + CHUNK]):
                await self._room.wait()
