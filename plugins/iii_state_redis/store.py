"""RedisStore: the connections, the layout and what is known of the keys; it sends commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

from iii_skill.adapter import Deferred
from iii_skill.adapters.shared import Key, KnownValues
from iii_skill.errors import StoreRefused
from iii_skill.values import Change

from .commands import CommandRules, FireAndForget, GetValue, ReadCommand, Snapshot, WriteValue
from .config import RedisConfig
from .connect import Address, Mode, Server, address
from .connection import ServerConnection
from .layout import Bucket, Layout, PackedPlace
from .resends import Resends
from .scripts import CUT, SCRIPTS, WITH_ORDER
from .server_errors import OutOfMemory, ServerFault

log = logging.getLogger(__name__)

MOST_RESENDS = 5
STREAM_SHARE = 8
"""All streams of a server together take no more than one in so many bytes of its `maxmemory`."""
KEPT_WITHOUT_MEMORY = 100
Pack = Callable[[tuple[str | bytes | int, ...]], bytes]


class RedisStore:
    """One Redis; it is the Backend of the commands."""

    def __init__(self, config: RedisConfig) -> None:
        self.config = config
        self.target: Address = address(config.redis_url)
        from hiredis import pack_command

        self.pack: Pack = cast(Pack, pack_command)
        self.loop = asyncio.get_running_loop()
        self.timeout = config.timeout
        self.layout = Layout(config.layout, config.key_prefix, stream_length=config.stream_length)
        self.known = KnownValues()
        self.resends: dict[int, Resends] = {}
        """By bucket; empty while no write is sent again."""
        self.on_connected: list[Callable[[], None]] = []
        """Called with every new connection for calls: what they send is ahead of every call."""
        self.connection = self.new_connection(self.layout.buckets[0])
        self.connection.on_connected = self.connected
        self.connection.on_server = self.look_at
        self.large = config.stream_bytes // (2 * config.stream_length)
        """Values above so many bytes count for the size of the stream; `stream_length` bounds the others."""
        self._warnings: set[str] = set()
        self._grown: dict[bytes, int] = {}
        """Bytes of large values that went into each stream since it was last cut."""

    def target_of(self, bucket: Bucket) -> Address:
        """The server that holds the bucket."""
        return self.target

    def together_with(self, bucket: Bucket) -> Sequence[Bucket]:
        """The buckets on the server that holds this one, once for each of their streams."""
        return (*self.layout.buckets, *self.layout.private)

    def new_connection(self, bucket: Bucket) -> ServerConnection:
        """One more connection, not open yet, to the server that holds the bucket."""
        config = self.config
        return ServerConnection(
            self.target_of(bucket), timeout=config.timeout, connect_timeout=config.connect_timeout
        )

    def look_at(self, server: Server) -> None:
        """Say what its settings make of our promises, each once."""
        warning = server.eviction
        if warning is not None and warning not in self._warnings:
            self._warnings.add(warning)
            log.warning("%s", warning)

    def connected(self) -> None:
        """There is a new connection for calls."""
        for listener in self.on_connected:
            listener()

    async def open(self) -> None:
        """Connect; StoreRefused when this server can never serve the layout."""
        await self.connection.open()
        if self.connection.mode is Mode.CLUSTER and self.config.layout == "engine":
            raise StoreRefused(f"{self.target.label} is a Redis Cluster: set layout=cluster.")

    async def close(self) -> None:
        """Wait for what is on its way, then disconnect."""
        await self.connection.close()

    def send(self, command: CommandRules) -> None:
        """Send it to the server that holds its bucket."""
        self.connection.send(command)

    def resend(self, command: CommandRules, fault: ServerFault) -> bool:
        """Do what makes the command work, then send it again behind that."""
        if fault.code == "NOSCRIPT" and command.resent < MOST_RESENDS:
            # The server forgot the scripts: it was restarted, or somebody flushed them.
            for script in SCRIPTS:
                self.send(FireAndForget(self, command.bucket, self.pack(("SCRIPT", "LOAD", script.source))))
        elif fault.code == "OOM" and command.writes and not command.resent:
            # Values that were deleted or replaced go on living in the stream: it gives way to new ones.
            for bucket in self.together_with(command.bucket):
                self.cut(bucket, KEPT_WITHOUT_MEMORY)
        else:
            return False
        command.resent += 1
        if command.writes:
            self.resends.setdefault(command.bucket.number, Resends()).add(command)
        self.send(command)
        return True

    def settled(self, command: CommandRules) -> None:
        """It is not waited for any more, should it have been sent again."""
        resends = self.resends.get(command.bucket.number)
        if resends is not None and resends.settled(command):
            del self.resends[command.bucket.number]

    def overtook(self, command: CommandRules) -> bool:
        """A reply that came while writes are sent again: ask once more if it was ahead of one of them."""
        self.settled(command)
        resends = self.resends.get(command.bucket.number)
        # A write cannot show too little, and what shows nothing has overtaken nothing.
        if resends is None or command.writes or not command.shows or not resends.overtaken_by(command):
            return False
        self.send(command)
        return True

    def ask(self, bucket: Bucket, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Any command that shows what is written; a future of the raw reply."""
        question = ReadCommand(self, bucket, self.pack(command))
        self.send(question)
        return question.future

    async def with_order(self, command: bytes, place: PackedPlace) -> list[Any]:
        """The replies of a command that reads the hash and of the one that reads its order, at one moment."""
        commands = [self.pack((command, place.values)), self.pack((b"ZRANGE", place.order, 0, -1))]
        snapshot = Snapshot.of(self, place.bucket, commands)
        self.send(snapshot)
        try:
            replies: list[Any] = await snapshot.future
        except OutOfMemory:
            # Redis 7 takes no transaction then, not even one that only reads; a script may still read.
            replies = await self.ask(place.bucket, b"EVAL", WITH_ORDER, 2, place.values, place.order, command)
        return replies

    def read(self, place: PackedPlace, key: Key) -> Deferred[bytes | None]:
        """HGET."""
        command = GetValue(self, place.bucket, place.get_value(key[1]), key=key)
        self.send(command)
        return command.answer

    def write(self, place: PackedPlace, key: Key, new: bytes | None) -> Deferred[Change]:
        """Set or delete without looking."""
        expected = self.known.get(key)
        if new is None:
            self.known.forget(key)
        else:
            self.known.put(key, new)
            if len(new) > self.large:
                self.grow(place.bucket, len(new))
        packed = place.write_value(key[1], new or b"")
        command = WriteValue(self, place.bucket, packed, key=key, new=new, expected=expected)
        self.send(command)
        return command.answer

    def added_to_stream(self, bucket: Bucket, size: int) -> None:
        """The old value of a blind write, which is in the stream too."""
        if size > self.large:
            self.grow(bucket, size)

    def grow(self, bucket: Bucket, size: int) -> None:
        """Large values go into the stream of the bucket: have it cut when that may be too much."""
        grown = self._grown.get(bucket.stream, 0) + size
        most = self.config.stream_bytes
        if grown >= most // 8:
            grown = 0
            self.cut(bucket, max(1, most // (2 * size)))
        self._grown[bucket.stream] = grown

    def cut(self, bucket: Bucket, fewest: int) -> None:
        """Cut the stream of the bucket to the bytes that it may take, or to `fewest` entries where we may not
        ask how many it takes."""
        share = STREAM_SHARE * (len(self.layout.buckets) + len(self.layout.private))
        command = (b"EVAL", CUT, 1, bucket.stream, self.config.stream_bytes, fewest, share)
        self.send(FireAndForget(self, bucket, self.pack(command)))
