"""Channels: opened by id and key; one whose ends have not met after its lifetime is closed."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from iii_skill.calls import Call
from iii_skill.engine.channel import Channel, Direction
from iii_skill.engine.ids import token
from iii_skill.errors import InputError

LIFETIME = 300.0


class ChannelEntry(msgspec.Struct):
    """A channel that was created, and when."""

    access_key: str
    channel: Channel
    born: float


class Offer(msgspec.Struct, frozen=True):
    """A channel that is made when somebody opens it."""

    access_key: str
    open: Callable[[], Channel]


Source: TypeAlias = Callable[[str], Offer | None]
"""What a channel id means to somebody who has channels to offer; None when it is none of theirs."""


class CreateInput(msgspec.Struct):
    """The payload of `engine::channels::create`."""

    buffer_size: int | None = None


class Channels:
    """All channels by id. The key of a channel grants both directions."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, lifetime: float = LIFETIME) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self._entries: dict[str, ChannelEntry] = {}
        self._sources: list[Source] = []
        self._swept = clock()

    def __len__(self) -> int:
        return len(self._entries)

    def create(self, buffer_size: int = 64) -> tuple[str, str]:
        """A new channel; gives back id and key. `buffer_size` is clamped to 1 … 1024 messages."""
        self.sweep_sometimes()
        channel_id, access_key = mint()
        size = min(max(buffer_size, 1), 1024)
        channel = Channel(size, on_end=lambda: self.withdraw(channel_id))
        self._entries[channel_id] = ChannelEntry(access_key, channel, self._clock())
        return channel_id, access_key

    def add_source(self, source: Source) -> None:
        """Ask it for the ids of all other channels: an offer costs nothing until somebody opens it."""
        self._sources.append(source)

    def remove_source(self, source: Source) -> None:
        """It offers no channels any more; unknown ones are fine."""
        if source in self._sources:
            self._sources.remove(source)

    def withdraw(self, channel_id: str) -> None:
        """Nobody can open the channel any more; ends that are open stay open."""
        self._entries.pop(channel_id, None)

    def find(self, channel_id: str, access_key: str) -> Channel | None:
        """The channel, or None when id or key is wrong."""
        entry = self._entries.get(channel_id)
        if entry is not None:
            return entry.channel if _same(entry.access_key, access_key) else None
        for source in self._sources:
            offer = source(channel_id)
            if offer is not None and _same(offer.access_key, access_key):
                return offer.open()
        return None

    def sweep_sometimes(self) -> None:
        """Sweep when the last time is a tenth of a lifetime ago."""
        if self._clock() - self._swept >= self.lifetime / 10:
            self.sweep()

    def sweep(self) -> None:
        """Close the channels whose ends have not met in time."""
        self._swept = now = self._clock()
        for channel_id, entry in list(self._entries.items()):
            channel = entry.channel
            if now - entry.born < self.lifetime:
                continue
            if channel.writer is not None and channel.reader is not None:
                continue
            self.withdraw(channel_id)
            channel.expire()

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
    # `.value` would be a call for each.
    end = "read" if direction is Direction.READ else "write"
    return f'{{"channel_id":"{channel_id}","access_key":"{access_key}","direction":"{end}"}}'.encode()


def _same(key: str, given: str) -> bool:
    return hmac.compare_digest(key.encode(), given.encode("utf-8", "replace"))
