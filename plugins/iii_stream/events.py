"""What happened to a stream, as triggers and subscribers get it."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


class StreamEvent(msgspec.Struct, frozen=True):
    """One event: `kind` is create, update, delete or event; `data` is encoded JSON."""

    stream: str
    group: str
    item: str | None
    kind: str
    data: bytes
    timestamp_ms: int

    @property
    def order(self) -> tuple[str, str, str | None]:
        """Events of one order reach each listener one after another."""
        return self.stream, self.group, self.item

    @property
    def plain(self) -> dict[str, Any]:
        """What filters need not decode."""
        return {
            "type": "stream",
            "timestamp": self.timestamp_ms,
            "streamName": self.stream,
            "groupId": self.group,
            "id": self.item,
        }

    def encode(self) -> bytes:
        """The message, for triggers and sockets alike."""
        return envelope(self.stream, self.group, self.item, self.kind, self.data, self.timestamp_ms)


def envelope(
    stream: str, group: str, item: str | None, kind: str, data: bytes | None, timestamp_ms: int
) -> bytes:
    """A message about a group or an item; `data` None leaves it out."""
    event = b'{"type":%b}' % _encode(kind)
    if data is not None:
        event = b'{"type":%b,"data":%b}' % (_encode(kind), data)
    return b'{"type":"stream","timestamp":%d,"streamName":%b,"groupId":%b,"id":%b,"event":%b}' % (
        timestamp_ms,
        _encode(stream),
        _encode(group),
        _encode(item),
        event,
    )
