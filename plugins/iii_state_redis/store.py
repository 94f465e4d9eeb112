"""Store: the connections, the layout and what is known of the keys, shared by the exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from iii_skill.adapter import Deferred
from iii_skill.errors import StoreRefused
from iii_skill.values import Change

from .cache import Key, KnownValues
from .config import RedisConfig
from .exchanges import Ignored, Look, Moment, Read, Routed, Write, is_json
from .faults import OutOfMemory, ServerFault
from .handshake import Address, Mode, address
from .late import Late
from .layout import Bucket, Layout, Place, bulk, encode
from .link import Link
from .scripts import CUT, SCRIPTS, WITH_ORDER
from .turns import Turn

MOST_REDIRECTS = 5
Pack = Callable[[tuple[str | bytes | int, ...]], bytes]


class Store:
    """One Redis, as the adapter and its exchanges see it."""

    def __init__(self, config: RedisConfig) -> None:
        self.config = config
        self.target: Address = address(config.redis_url)
        from hiredis import pack_command

        self.pack: Pack = cast(Pack, pack_command)
        self.loop = asyncio.get_running_loop()
        self.timeout = config.timeout
        self.layout = Layout(config.layout, config.key_prefix, stream_length=config.stream_length)
        self.known = KnownValues()
        self.turns: dict[Key, Turn] = {}
        self.late: dict[int, Late] = {}
        """By bucket; empty while no write is late."""
        self.newcomers: list[Callable[[], None]] = []
        """Called with every new connection for calls: what they send is ahead of every call."""
        self.link = self.new_link(self.layout.buckets[0])
        self.link.on_pipe = self.welcome
        self._small = config.stream_bytes // (2 * config.stream_length)
        self._grown = [0] * len(self.layout.buckets)
        """Bytes of large values that went into each stream since it was last cut."""

    def target_of(self, bucket: Bucket) -> Address:
        """The server that holds the bucket."""
        return self.target

    def new_link(self, bucket: Bucket) -> Link:
        """One more connection, not open yet, to the server that holds the bucket."""
        config = self.config
        return Link(self.target_of(bucket), timeout=config.timeout, connect_timeout=config.connect_timeout)

    def welcome(self) -> None:
        """There is a new connection for calls."""
        for newcomer in self.newcomers:
            newcomer()

    async def open(self) -> None:
        """Connect; StoreRefused when this server can never serve the layout."""
        await self.link.open()
        if self.link.mode is Mode.CLUSTER and self.config.layout == "engine":
            raise StoreRefused(f"{self.target.label} is a Redis Cluster: set layout=cluster.")

    async def close(self) -> None:
        """Wait for what is on its way, then disconnect."""
        await self.link.close()

    def send(self, exchange: Routed) -> None:
        """Send it to the server that holds its bucket."""
        self.link.send(exchange)

    def redirect(self, exchange: Routed, fault: ServerFault) -> bool:
        """Send it again where that is safe and helps: the server has not carried it out."""
        if exchange.redirects >= MOST_REDIRECTS or not str(fault).startswith("NOSCRIPT"):
            return False
        exchange.redirects += 1
        for script in SCRIPTS:
            self.send(Ignored(self, exchange.bucket, self.pack(("SCRIPT", "LOAD", script.source))))
        if exchange.writes:
            self.late.setdefault(exchange.bucket.number, Late()).add(exchange)
        self.send(exchange)
        return True

    def arrived(self, exchange: Routed) -> None:
        """It has been answered, or never will be: it is not late any more."""
        late = self.late.get(exchange.bucket.number)
        if late is not None and late.arrived(exchange):
            del self.late[exchange.bucket.number]

    def asked_again(self, exchange: Routed) -> bool:
        """True when its reply does not show a write that was sent before it, and it was sent again."""
        self.arrived(exchange)
        late = self.late.get(exchange.bucket.number)
        overtook = exchange.shows and not exchange.writes and late is not None and late.overtaken_by(exchange)
        if overtook:
            self.send(exchange)
        return overtook

    def checked(self, key: Key, value: bytes) -> bool:
        """True when the bytes are JSON; the same bytes as last time are not checked again."""
        if self.known.get(key) == value:
            return True
        if not is_json(value):
            return False
        self.known.put(key, value)
        return True

    def ask(self, bucket: Bucket, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Any command that tells what is written; a future of the raw reply."""
        exchange = Look(self, bucket, self.pack(command))
        self.send(exchange)
        return exchange.future

    async def with_order(self, command: bytes, place: Place) -> list[Any]:
        """The replies of a command that reads the hash and of the one that reads its order, at one moment."""
        commands = [self.pack((command, place.values)), self.pack((b"ZRANGE", place.order, 0, -1))]
        exchange = Moment.of(self, place.bucket, commands)
        self.send(exchange)
        try:
            replies: list[Any] = await exchange.future
        except OutOfMemory:
            # Redis 7 takes no transaction then, not even one that only reads; a script may still read.
            replies = await self.ask(place.bucket, b"EVAL", WITH_ORDER, 2, place.values, place.order, command)
        return replies

    def read(self, place: Place, key: Key) -> Deferred[bytes | None]:
        """HGET."""
        exchange = Read(self, place.bucket, self.hget(place, key[1]), key=key)
        self.send(exchange)
        return exchange.answer

    def write(self, place: Place, key: Key, new: bytes | None) -> Deferred[Change]:
        """Set or delete without looking."""
        expected = self.known.get(key)
        if new is None:
            self.known.forget(key)
        else:
            self.known.put(key, new)
        if new is not None and len(new) > self._small:
            self.grow(place.bucket, len(new))
        raw, value = encode(key[1]), new or b""
        head = (place.write, len(raw), raw, place.tail, len(value), value)
        command = b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n" % head
        exchange = Write(self, place.bucket, command, key=key, new=new, expected=expected)
        self.send(exchange)
        return exchange.answer

    def hget(self, place: Place, key: str) -> bytes:
        """The packed command that reads a key."""
        raw = encode(key)
        return b"%b$%d\r\n%b\r\n" % (place.hget, len(raw), raw)

    def told(self, bucket: Bucket, old: bytes) -> None:
        """The old value of a blind write, which is in the stream too."""
        if len(old) > self._small:
            self.grow(bucket, len(old))

    def swap(self, place: Place, key: str, base: bytes, values: Sequence[bytes]) -> bytes:
        """The packed command that compares `base` and writes `values` in turn (empty: delete)."""
        raw = encode(key)
        sizes = [len(base), *map(len, values)]
        if max(sizes) > self._small:
            # Each value is in the stream twice: as the new one, then as the old one.
            self.grow(place.bucket, 2 * sum(sizes))
        rest = b"".join(map(bulk, (base, *values)))
        head = (11 + len(values), place.swap, len(raw), raw, place.tail, rest)
        return b"*%d\r\n%b$%d\r\n%b\r\n%b%b" % head

    def swap_one(self, place: Place, key: str, base: bytes, new: bytes) -> bytes:
        """The same for one value, which is what most of them are: packed in one go."""
        if len(base) + len(new) > self._small:
            return self.swap(place, key, base, (new,))
        raw = encode(key)
        head = (place.swap_one, len(raw), raw, place.tail, len(base), base, len(new), new)
        return b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % head

    def grow(self, bucket: Bucket, size: int) -> None:
        """Large values go into the stream of the bucket: have it cut when that may be too much."""
        grown = self._grown[bucket.number] + size
        most = self.config.stream_bytes
        if grown >= most // 8:
            grown = 0
            fewest = max(1, most // (2 * size))
            self.send(Ignored(self, bucket, self.pack((b"EVAL", CUT, 1, bucket.stream, most, fewest))))
        self._grown[bucket.number] = grown
