"""RedisStore: the connections, the layout and what is known of the keys; it sends commands."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, cast

from iii_skill.adapter import Deferred, Expiry
from iii_skill.adapters.shared import Key, KnownValues
from iii_skill.errors import StoreRefused
from iii_skill.values import Change, Keep

from .commands import CommandRules, FireAndForget, GetValue, ReadCommand, Snapshot, WriteValue
from .config import RedisConfig
from .connect import Address, Mode, Server, address
from .connection import ServerConnection
from .ends import EndsUse, ExpireKey, PackedEnds, names_over
from .layout import MOST_PLACES, Bucket, Layout, PackedPlace
from .resends import Resends
from .scripts import CUT, SCRIPTS, WITH_ORDER
from .server_errors import OutOfMemory, ServerFault
from .version_scripts import KEEPING

log = logging.getLogger(__name__)

MOST_RESENDS = 5
STREAM_SHARE = 8
"""All streams of a server together take no more than one in so many bytes of its `maxmemory`."""
KEPT_WITHOUT_MEMORY = 100
Pack = Callable[[tuple[str | bytes | int, ...]], bytes]


class KeepsVersions(Protocol):
    """The commands that note a version of every change."""

    def keeps(self, scope: str) -> bool:
        """Whether keys of the scope have versions."""

    def write_value(self, scope: str, key: str, value: bytes, *, ends: bool) -> bytes:
        """Writes a key whatever is there (empty: deletes it); `ends`: it may have an end."""

    def swap(self, scope: str, key: str, values: Sequence[bytes], *, ends: bool) -> bytes:
        """Compares the first value and writes the others in turn (empty: deletes)."""

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> bytes:
        """Gives a key an end, takes it away, or tells it."""

    def around(self, packed: Sequence[bytes]) -> list[bytes]:
        """What a transaction of these writes is."""


class RedisStore:
    """One Redis; it is the Backend of the commands."""

    def __init__(self, config: RedisConfig) -> None:
        self.config = config
        self.target: Address = address(config.redis_url)
        from hiredis import pack_command

        self._scripts = SCRIPTS if config.history is None else (*SCRIPTS, *KEEPING)
        self.pack: Pack = cast(Pack, pack_command)
        self.loop = asyncio.get_running_loop()
        self.timeout = config.timeout
        self.layout = Layout(config.layout, config.key_prefix, stream_length=config.stream_length)
        self.known = KnownValues()
        self.ends = EndsUse(self)
        self.history: KeepsVersions | None = None
        """None: no versions of keys are kept."""
        self._packed_ends: dict[str, PackedEnds] = {}
        self.now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
        """The host's clock."""
        self.resends: dict[int, Resends] = {}
        """By bucket; empty while nothing is sent again."""
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

    def new_connection(self, bucket: Bucket, *, timeout: float | None = None) -> ServerConnection:
        """One more connection, not open yet, to the server that holds the bucket."""
        config = self.config
        return ServerConnection(
            self.target_of(bucket),
            timeout=config.timeout if timeout is None else timeout,
            connect_timeout=config.connect_timeout,
            scripts=self._scripts,
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
            for script in self._scripts:
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
        elif command.shows:
            self.resends.setdefault(command.bucket.number, Resends()).add_read(command)
        self.send(command)
        return True

    def settled(self, command: CommandRules) -> None:
        """It is not waited for any more, should it have been sent again."""
        resends = self.resends.get(command.bucket.number)
        if resends is not None and resends.settled(command):
            del self.resends[command.bucket.number]

    def overtook(self, command: CommandRules) -> bool:
        """A reply that came while writes are sent again: ask once more if it was ahead of one of them."""
        resends = self.resends.get(command.bucket.number)
        # A write cannot show too little, and what shows nothing has overtaken nothing.
        if resends is None or command.writes or not command.shows or not resends.overtaken_by(command):
            self.settled(command)
            return False
        self.send(command)
        return True

    def ask(self, bucket: Bucket, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Any command that shows what is written; a future of the raw reply."""
        question = ReadCommand(self, bucket, self.pack(command))
        self.send(question)
        return question.future

    async def with_order(self, command: bytes, place: PackedPlace) -> list[Any]:
        """The replies of a command that reads the hash and of one that reads its order, and the names of keys
        that are over, at one moment."""
        commands = [self.pack((command, place.values)), self.pack((b"ZRANGE", place.order, 0, -1))]
        minds = self.ends.looks(place.bucket)
        if minds:
            commands.append(self.pack(names_over(place, self.now_ms())))
        snapshot = Snapshot.of(self, place.bucket, commands)
        self.send(snapshot)
        try:
            replies: list[Any] = await snapshot.future
        except OutOfMemory:
            # Redis 7 takes no transaction then, not even one that only reads; a script may still read.
            names = await self.ask(place.bucket, *names_over(place, self.now_ms())) if minds else []
            replies = await self.ask(place.bucket, b"EVAL", WITH_ORDER, 2, place.values, place.order, command)
            return [*replies, names]
        return replies if minds else [*replies, []]

    def with_ends(self, scope: str) -> PackedEnds:
        """The commands for a scope that mind the ends of its keys."""
        packed = self._packed_ends.get(scope)
        if packed is None:
            if len(self._packed_ends) >= MOST_PLACES:
                del self._packed_ends[next(iter(self._packed_ends))]
            packed = self._packed_ends[scope] = PackedEnds(self.layout.places[scope], scope)
        return packed

    def pack_read(self, place: PackedPlace, key: Key) -> bytes:
        """The command that reads a key."""
        if self.ends.looks(place.bucket):
            return self.with_ends(key[0]).get_value(key[1], self.now_ms())
        return place.get_value(key[1])

    def pack_write(self, place: PackedPlace, key: Key, value: bytes) -> bytes:
        """The command that writes a key whatever is there (empty: deletes it)."""
        ends = self.ends.looks(place.bucket)
        if ends or self.history is not None:
            return self.pack_blind(key, value, ends=ends)
        return place.write_value(key[1], value)

    def pack_swap(self, key: Key, values: Sequence[bytes], *, ends: bool = True) -> bytes:
        """The command that compares and writes, and minds ends unless no key has one."""
        if self.history is not None and self.history.keeps(key[0]):
            return self.history.swap(*key, values, ends=ends)
        return self.with_ends(key[0]).swap(key[1], values, self.now_ms())

    def pack_blind(self, key: Key, value: bytes, *, ends: bool = True) -> bytes:
        """The command that writes a key whatever is there, and minds ends unless no key has one."""
        if self.history is not None and self.history.keeps(key[0]):
            return self.history.write_value(*key, value, ends=ends)
        return self.with_ends(key[0]).write_value(key[1], value, self.now_ms())

    def expire(self, key: Key, at_ms: int | Literal[Keep.KEEP] | None) -> Deferred[Expiry]:
        """Give a key an end, take it away, or tell it."""
        place = self.layout.places[key[0]]
        if self.history is not None and self.history.keeps(key[0]):
            packed = self.history.expire(*key, at_ms)
        else:
            packed = self.with_ends(key[0]).expire(key[1], at_ms, self.now_ms())
        command = ExpireKey(self, place.bucket, packed, use=self.ends, loop=self.loop)
        self.send(command)
        return command.answer

    def read(self, place: PackedPlace, key: Key) -> Deferred[bytes | None]:
        """HGET."""
        command = GetValue(self, place.bucket, self.pack_read(place, key), key=key)
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
        packed = self.pack_write(place, key, new or b"")
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
