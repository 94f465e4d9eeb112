"""When keys end: where that lies in Redis, the commands that mind it, and whether a store has ends at all.

All ends of a bucket are one sorted set, `iii:expires`: the moment in ms, and scope and key in one name. As
long as it is not there no key has an end, and calls are sent as if there were none. That is asked again
four times a second, by the calls themselves; whoever gives the first end of a store waits with the answer
until every host has had to ask. An entry without a name keeps the set for ever, with the time of its making.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import field as _field

from iii_skill.adapter import Deferred, Expiry
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import KEEP, Keep

from .commands import Command
from .layout import Bucket, PackedPlace, bulk, decode, encode
from .scripts import EXPIRE, LEFT, LEFT_BLIND, LEFT_SWAP

FREE_SECONDS = 0.25
"""For so long after it was asked, a store without ends is taken for one."""
WAIT_MS = 400
"""So old is the set before an answer relies on all hosts knowing it: their time and more."""
SWEPT = 500

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""One that goes on while the machine is suspended."""


def name_of(scope: str, key: str) -> bytes:
    """Scope and key in one."""
    raw = encode(scope)
    return b"%d:%b%b" % (len(raw), raw, encode(key))


def read_name(name: bytes) -> tuple[str, str] | None:
    """What `name_of` made; None for anything else."""
    size, _, rest = name.partition(b":")
    if not size.isdigit() or len(rest) < int(size):
        return None
    scope, key = decode(rest[: int(size)]), decode(rest[int(size) :])
    return None if scope is None or key is None else (scope, key)


class PackedEnds:
    """The packed commands for the keys of one scope that mind their ends; `now` is in ms."""

    __slots__ = ("_blind", "_expire", "_place", "_prefix", "_read", "_scope", "_swap")

    def __init__(self, place: PackedPlace, scope: str) -> None:
        bucket = place.bucket
        raw = encode(scope)
        self._place = place
        self._scope = b"%d:%b" % (len(raw), raw)
        keys = (place.values, place.order, bucket.index, bucket.stream, bucket.ends)
        declared = b"$1\r\n5\r\n" + b"".join(map(bulk, keys))
        self._blind = b"*14\r\n" + LEFT_BLIND.call + declared
        self._swap = LEFT_SWAP.call + declared
        self._expire = b"*14\r\n" + EXPIRE.call + declared
        self._read = b"*8\r\n" + LEFT.call + b"$1\r\n2\r\n" + bulk(place.values) + bulk(bucket.ends)

    def get_value(self, key: str, now: int) -> bytes:
        """Reads a key unless it is over."""
        raw = encode(key)
        return b"".join((self._read, bulk(raw), bulk(self._scope + raw), bulk(b"%d" % now)))

    def write_value(self, key: str, value: bytes, now: int) -> bytes:
        """Writes a key whatever is there (empty: deletes it), and takes its end away."""
        return b"".join((self._blind, *self._name(key, now), bulk(value)))

    def swap(self, key: str, values: Sequence[bytes], now: int) -> bytes:
        """Compares the first value and writes the others in turn (empty: deletes)."""
        head = b"*%d\r\n" % (13 + len(values))
        return b"".join((head, self._swap, *self._name(key, now), *map(bulk, values)))

    def expire(self, key: str, at_ms: int | Literal[Keep.KEEP] | None, now: int) -> bytes:
        """Gives a key an end, takes it away, or tells it."""
        end = b"keep" if at_ms is KEEP else b"" if at_ms is None else b"%d" % max(1, at_ms)
        return b"".join((self._expire, *self._name(key, now), bulk(end)))

    def _name(self, key: str, now: int) -> tuple[bytes, ...]:
        raw = encode(key)
        return bulk(raw), self._place.tail, bulk(self._scope + raw), bulk(b"%d" % now)


def _unknown() -> EndsUse:
    raise TypeError("whose ends")


class LookForEnds(Command):
    """Asks whether a bucket has ends."""

    shows = True
    use: EndsUse = _field(default_factory=_unknown)
    sent: float = 0.0

    def answered(self, value: Any) -> None:
        self.use.told(self.bucket, bool(value), self.sent)

    def failed(self, error: AdapterError) -> None:
        self.use.untold(self.bucket, error)


class EndsUse:
    """Which buckets may have ends, as far as this host must know."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._used: set[int] = set()
        self._free_until: dict[int, float] = {}
        self._asked: set[int] = set()

    def looks(self, bucket: Bucket) -> bool:
        """Whether a call that is sent now has to mind ends; asks the server when that is not known."""
        number = bucket.number
        if number in self._used:
            return True
        now = time.clock_gettime(_CLOCK)
        if now < self._free_until.get(number, 0.0):
            return False
        if number not in self._asked:
            self._asked.add(number)
            packed = self._sender.pack((b"EXISTS", bucket.ends))
            self._sender.send(LookForEnds(self._sender, bucket, packed, use=self, sent=now))
        return True

    def use(self, bucket: Bucket) -> None:
        """The bucket has ends."""
        self._used.add(bucket.number)

    def told(self, bucket: Bucket, found: bool, sent: float) -> None:
        """What the server answered to a question that was sent then."""
        self._asked.discard(bucket.number)
        if found:
            self.use(bucket)
        else:
            self._free_until[bucket.number] = sent + FREE_SECONDS

    def untold(self, bucket: Bucket, error: AdapterError) -> None:
        """The server did not answer, or the user may not ask: then this host has nothing to do with ends."""
        self._asked.discard(bucket.number)
        if not isinstance(error, (AdapterUnavailable, AdapterTimeout)):
            self._free_until[bucket.number] = math.inf

    def barred(self, bucket: Bucket) -> bool:
        """Whether the user may not ask."""
        return self._free_until.get(bucket.number) == math.inf

    async def ask_all(self) -> None:
        """Know it of every bucket before the first call."""
        for bucket in self._sender.layout.buckets:
            sent = time.clock_gettime(_CLOCK)
            try:
                found = await self._sender.ask(bucket, b"EXISTS", bucket.ends)
            except AdapterError as error:
                self.untold(bucket, error)
            else:
                self.told(bucket, bool(found), sent)


def _new_answer() -> Deferred[Expiry]:
    return Deferred()


class ExpireKey(Command):
    """The script EXPIRE."""

    writes = True
    use: EndsUse = _field(default_factory=_unknown)
    loop: Any = None
    answer: Deferred[Expiry] = _field(default_factory=_new_answer)

    def answered(self, value: Any) -> None:
        found, at, age = value
        self.use.use(self.bucket)
        expiry = Expiry(bool(found), int(float(at)) if found and at else None)
        if age < WAIT_MS:
            # Hosts that asked before the set was made do not know of it yet.
            self.loop.call_later((WAIT_MS - age) / 1000, self._settle, expiry)
        else:
            self._settle(expiry)

    def failed(self, error: AdapterError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def _settle(self, expiry: Expiry) -> None:
        if not self.answer.done():
            self.answer.set_result(expiry)


def over_in(scope: str, names: Sequence[bytes]) -> frozenset[str]:
    """The keys of a scope among those that are over."""
    return frozenset(key for where, key in filter(None, map(read_name, names)) if where == scope)


async def over(sender: Any, place: PackedPlace, scope: str) -> frozenset[str]:
    """The keys of a scope that are over and still there."""
    if not sender.ends.looks(place.bucket):
        return frozenset()
    return over_in(scope, await sender.ask(place.bucket, *names_over(place, sender.now_ms())))


def names_over(place: PackedPlace, now: int) -> tuple[bytes | int, ...]:
    """The command that gives the names of what is over and still there."""
    return (b"ZRANGEBYSCORE", place.bucket.ends, 1, now)


async def scopes_over(sender: Any, now: int) -> dict[str, int]:
    """How many keys of each scope are over and still there."""
    count: dict[str, int] = {}
    for bucket in sender.layout.buckets:
        if sender.ends.looks(bucket):
            names = await sender.ask(bucket, b"ZRANGEBYSCORE", bucket.ends, 1, now)
            for scope, _ in filter(None, map(read_name, names)):
                count[scope] = count.get(scope, 0) + 1
    return count


async def end_of(sender: Any, scope: str, key: str) -> None:
    """Make the end of a key that is over."""
    bucket = sender.layout.places[scope].bucket
    if sender.ends.looks(bucket):
        at = await sender.ask(bucket, b"ZSCORE", bucket.ends, name_of(scope, key))
        if at is not None and float(at) <= sender.now_ms():
            await sender.expire((scope, key), KEEP)


async def sweep(sender: Any) -> int | None:
    """Make the ends that came, some hundred of each bucket at most; when the next key ends."""
    now = sender.now_ms()
    following: int | None = None
    for bucket in sender.layout.buckets:
        if sender.ends.barred(bucket):
            continue
        limit = (b"LIMIT", 0, SWEPT)
        names = await sender.ask(bucket, b"ZRANGEBYSCORE", bucket.ends, 1, now, *limit)
        asked = (b"ZRANGEBYSCORE", bucket.ends, b"(%d" % now, b"+inf", b"WITHSCORES", b"LIMIT", 0, 1)
        later = await sender.ask(bucket, *asked)
        if names or later:
            sender.ends.use(bucket)
        # The script looks again: another host may have made the end, or a write took it away.
        for answer in [sender.expire(key, KEEP) for key in filter(None, map(read_name, names))]:
            await answer
        moment = now if len(names) == SWEPT else int(float(later[1])) if later else None
        if moment is not None:
            following = moment if following is None else min(following, moment)
    return following
