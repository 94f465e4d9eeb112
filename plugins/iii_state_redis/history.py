"""History: versions of keys, noted by the scripts that write, read and dropped by others.

Each key has a stream of its versions, `iii:version:<scope and key>`, under the ids of their changes. Since
all changes of a server are in one stream those ids are one order of all of them: a moment is such an id, as
a revision. Beside them are `iii:history` (sorted set: the names that have versions), `iii:history:floor`
(from which id on all was noted, and when that was), `iii:history:together` (what was written in one
transaction) and `iii:history:clock` (how far clocks of hosts were ahead, which only tests do).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from iii_skill.adapter import VERSIONS_BYTES, HistorySettings, PastKey, PastPage, Version
from iii_skill.errors import AdapterTimeout, AdapterUnavailable, CallerError
from iii_skill.values import KEEP, MAX_REVISION, PRIVATE_SCOPES, Keep

from .change_stream import newest
from .commands import revision
from .ends import name_of, read_name
from .layout import MOST_PLACES, bulk, encode
from .store import RedisStore
from .version_scripts import (
    BEGIN_TOGETHER,
    END_TOGETHER,
    FORGET,
    KEPT_BLIND,
    KEPT_EXPIRE,
    KEPT_SWAP,
    NOW,
    RAISE,
    SHOW,
    THEN,
)

BYTES = 8 * 1024 * 1024
LOOKED_BACK = 100
FORGOTTEN = 500
"""Names that one script looks at."""
STEPS = 10
"""Such scripts in one call of `maintain`."""
FILLED = 1_000
"""Keys of a scope that are looked at in one command."""
BESIDE = (b":floor", b":together", b":clock", b":mark", b":filling")
_BLIND, _EXPIRE = b"*19\r\n" + KEPT_BLIND.call, b"*19\r\n" + KEPT_EXPIRE.call
_SEQUENCE = (1 << 22) - 1


def id_of(number: int) -> bytes:
    """The id of a revision."""
    return b"%d-%d" % (number >> 22, number & _SEQUENCE)


class Clocks:
    """From an id to the time on the clock that the host had which wrote it, and back."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        parted = [entry.partition(b" ") for entry in entries]
        self._since = [revision(first) for first, _, _ in parted]
        self._ahead = [int(ahead) for _, _, ahead in parted]

    def at_ms(self, number: int) -> int:
        """When a change was made."""
        place = bisect_right(self._since, number)
        return (number >> 22) + (self._ahead[place - 1] if place else 0)

    def last_at(self, at_ms: int) -> int:
        """The last number of that time or before."""
        following = MAX_REVISION
        for since, ahead in zip(reversed(self._since), reversed(self._ahead), strict=True):
            found = min((max(at_ms - ahead, 0) << 22) | _SEQUENCE, following - 1)
            if found >= since:
                return found
            following = since
        return min((max(at_ms, 0) << 22) | _SEQUENCE, following - 1)


class History:
    """What one host notes, reads and drops."""

    def __init__(
        self,
        settings: HistorySettings,
        store: RedisStore,
        ahead_ms: Callable[[], int],
        scopes: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        self._keep = settings.keep
        self._days_ms = settings.days_ms
        self._store = store
        self._ahead_ms = ahead_ms
        self._scopes = scopes
        bucket = self._bucket = store.layout.buckets[0]
        stem = bucket.stream.removesuffix(b"changes")
        self._version = stem + b"version:"
        self._names = stem + b"history"
        self._floor, self._together, self._clock, self._mark, self._filling = (
            self._names + more for more in BESIDE
        )
        self._packed_clock, self._packed_keep = bulk(self._clock), bulk(b"%d" % settings.keep)
        self._packed_rest = bulk(b"") + self._packed_keep + bulk(b"0")
        """The last arguments where no key has an end and no clock is ahead, which is most often."""
        self._same: dict[str, tuple[bytes, bytes, bytes, bytes]] = {}
        self._begun = False
        self._after = b""
        """The last name that was looked at for what is too old."""

    def keeps(self, scope: str) -> bool:
        """Whether keys of the scope have versions."""
        return not scope.startswith(PRIVATE_SCOPES)

    def write_value(self, scope: str, key: str, value: bytes, *, ends: bool) -> bytes:
        """Writes a key whatever is there (empty: deletes it)."""
        return b"%b$%d\r\n%b\r\n" % (self._noting(scope, key, _BLIND, ends=ends), len(value), value)

    def swap(self, scope: str, key: str, values: Sequence[bytes], *, ends: bool) -> bytes:
        """Compares the first value and writes the others in turn (empty: deletes)."""
        head = b"*%d\r\n%b" % (18 + len(values), KEPT_SWAP.call)
        return b"".join((self._noting(scope, key, head, ends=ends), *map(bulk, values)))

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> bytes:
        """Gives a key an end, takes it away, or tells it."""
        end = b"keep" if at_ms is KEEP else b"" if at_ms is None else b"%d" % max(1, at_ms)
        return self._noting(scope, key, _EXPIRE, ends=True) + bulk(end)

    def _noting(self, scope: str, key: str, head: bytes, *, ends: bool) -> bytes:
        same = self._same.get(scope)
        if same is None:
            if len(self._same) >= MOST_PLACES:
                del self._same[next(iter(self._same))]
            same = self._same[scope] = self._same_of(scope)
        keys, stem, tail, version = same
        raw = key.encode("utf-8", "surrogatepass")
        size, ahead = len(raw), self._ahead_ms()
        rest = self._packed_rest
        if ends or ahead:
            now = b"%d" % self._store.now_ms() if ends else b""
            rest = bulk(now) + self._packed_keep + bulk(b"%d" % ahead)
        return b"%b%b$%d\r\n%b%b\r\n%b$%d\r\n%b\r\n%b$%d\r\n%b%b\r\n%b" % (
            *(head, keys, len(version) + size, version, raw, self._packed_clock),
            *(size, raw, tail, len(stem) + size, stem, raw, rest),
        )

    def _same_of(self, scope: str) -> tuple[bytes, bytes, bytes, bytes]:
        """What is the same for all keys of a scope: the first keys, the beginning of names, two arguments,
        the beginning of the names of streams."""
        place = self._store.layout.places[scope]
        bucket = place.bucket
        keys = (place.values, place.order, bucket.index, bucket.stream, bucket.ends, self._names)
        stem = name_of(scope, "")
        return b"$1\r\n8\r\n" + b"".join(map(bulk, keys)), stem, place.tail, self._version + stem

    def around(self, packed: Sequence[bytes]) -> list[bytes]:
        """The writes of a transaction, so that no moment lies between them."""
        pack, stream = self._store.pack, self._bucket.stream
        first = pack((b"EVAL", BEGIN_TOGETHER, 2, self._mark, stream))
        last = pack((b"EVAL", END_TOGETHER, 3, self._mark, stream, self._together))
        return [first, *packed, last]

    async def begin(self) -> None:
        """See that all is noted from some moment on; nothing where the server is away."""
        if self._begun:
            return
        try:
            await self._begin()
        except (AdapterUnavailable, AdapterTimeout):
            return
        self._begun = True

    async def _begin(self) -> None:
        store = self._store
        last = await newest(store, self._bucket)
        end = last[0][0] if last else b"0-0"
        floor = await self._ask(b"GET", self._floor)
        how = "first" if floor is None or await self._was_noted(floor.split(b" ")[0]) else ""
        await self._ask(b"EVAL", RAISE, 2, self._floor, self._filling, end, self._ahead_ms(), how)
        if not await self._scopes():
            await self._fill()

    async def _fill(self) -> None:
        """Put the names of keys that had no change yet among the others."""
        if not await self._ask(b"EXISTS", self._filling):
            return
        for scope in await self._scopes():
            if not self.keeps(scope):
                continue
            values, cursor = self._store.layout.places[scope].values, b"0"
            while True:
                cursor, flat = await self._ask(b"HSCAN", values, cursor, b"COUNT", FILLED)
                stem = name_of(scope, "")
                members: list[bytes] = [part for raw in flat[::2] for part in (b"0", stem + raw)]
                if members:
                    await self._ask(b"ZADD", self._names, *members)
                if cursor == b"0":
                    break
        await self._ask(b"DEL", self._filling)

    async def _was_noted(self, floor: bytes) -> bool:
        """Whether the last change is a version: else hosts wrote that keep none."""
        rows = await self._ask(b"XREVRANGE", self._bucket.stream, b"+", b"-", b"COUNT", LOOKED_BACK)
        for stream_id, fields in rows:
            if revision(stream_id) <= revision(floor):
                return True
            if len(fields) == 8 and (fields[5] or fields[7]):
                name = b"%d:%b%b" % (len(fields[1]), fields[1], fields[3])
                return bool(await self._ask(b"XRANGE", self._version + name, stream_id, stream_id))
        return True

    async def versions(self, scope: str, key: str, before: int | None, limit: int) -> Sequence[Version]:
        """The last versions of a key, the newest first."""
        if not self.keeps(scope):
            return []
        keys = (self._version + name_of(scope, key), self._clock)
        first = b"" if before is None else id_of(min(max(before, 1), MAX_REVISION))
        following, rows, entries = await self._ask(
            b"EVAL", SHOW, 2, *keys, first, limit, self._keep, VERSIONS_BYTES
        )
        clocks = Clocks(entries)
        since = self._store.now_ms() - self._days_ms
        replaced = clocks.at_ms(revision(following)) if following else None
        found: list[Version] = []
        for stream_id, (kind, value) in rows:
            number = revision(stream_id)
            at_ms = clocks.at_ms(number)
            if replaced is None:
                # Gone since, and nothing came after it.
                if not value and at_ms < since:
                    break
            elif replaced < since:
                break
            replaced = at_ms
            found.append(Version(number, at_ms, None if kind in b"dh" else value))
        return found

    async def moment_at(self, at_ms: int) -> int:
        """The last change up to that time."""
        last, entries = await self._ask(b"EVAL", NOW, 2, self._bucket.stream, self._clock)
        return min(Clocks(entries).last_at(at_ms), revision(last))

    async def past(self, moment: int, after: str | None, limit: int) -> PastPage:
        """What keys held at a moment, in the order of their names."""
        await self.begin()
        try:
            start = b"-" if after is None else b"(" + bytes.fromhex(after)
        except ValueError:
            raise CallerError("That is no place to go on from.", code="INVALID_CURSOR") from None
        if after is not None and read_name(start[1:]) is None:
            raise CallerError("That is no place to go on from.", code="INVALID_CURSOR")
        raw = await self._ask(b"ZRANGEBYLEX", self._names, start, b"+", b"LIMIT", 0, limit + 1)
        names = [(name, split) for name in raw[:limit] if (split := read_name(name)) is not None]
        keys: list[bytes] = []
        for name, (scope, _) in names:
            keys += (self._version + name, self._store.layout.places[scope].values)
        own = (self._floor, self._together, self._clock, self._filling)
        fields = [encode(key) for _, (_, key) in names]
        first = id_of(min(moment, MAX_REVISION))
        floor, at, entries, rows, filling = await self._ask(
            b"EVAL", THEN, len(own) + len(keys), *own, *keys, first, BYTES, *fields
        )
        clocks = Clocks(entries)
        floor_id, _, floor_ms = floor.partition(b" ")
        whole = floor and not filling
        whole_from = revision(floor_id) if whole else MAX_REVISION
        whole_from_ms = int(floor_ms) if whole else self._store.now_ms()
        number = revision(at)
        found: list[PastKey] = []
        for (_, name_), row in zip(names, rows, strict=False):
            found.append(self._told(name_, row, number, whole_from, whole_from_ms, clocks))
        more = len(raw) > limit or len(rows) < len(names)
        following = names[len(rows) - 1][0].hex() if more and rows else None
        return PastPage(found, following, whole_from, whole_from_ms)

    def _told(
        self,
        name: tuple[str, str],
        row: Any,
        moment: int,
        whole_from: int,
        whole_from_ms: int,
        clocks: Clocks,
    ) -> PastKey:
        held, following, same, now = row
        if following is not None:
            known_from = clocks.at_ms(revision(following[0]))
            noted = following[1] not in (b"g", b"h")
        else:
            # Another program changed it since, nobody knows when.
            known_from, noted = self._store.now_ms(), bool(same)
        if held is None and following is None and now is not None:
            # It had no change since versions are kept.
            value = now
        elif held is None:
            made = following is not None and following[1].startswith(b"m")
            if not made or revision(following[1][1:]) > max(moment, whole_from):
                return PastKey(*name, None, max(known_from, whole_from_ms))
            value = None
        else:
            stream_id, (kind, value) = held
            if not noted:
                return PastKey(*name, None, known_from)
            if kind in b"dh":
                value = None
            elif following is None and revision(stream_id) <= moment:
                return PastKey(*name, value)
        if moment < whole_from:
            return PastKey(*name, None, whole_from_ms)
        return PastKey(*name, value)

    async def forget(self) -> None:
        """Drop what is not shown any more of some names, after those of the last call."""
        await self.begin()
        await self._fill()
        since = self._store.now_ms() - self._days_ms
        old = id_of(await self.moment_at(since - 1))
        for _ in range(STEPS):
            start = b"(" + self._after if self._after else b"-"
            names = await self._ask(b"ZRANGEBYLEX", self._names, start, b"+", b"LIMIT", 0, FORGOTTEN)
            if names:
                keys: list[bytes] = [self._names, self._floor]
                named: list[bytes] = []
                for name in names:
                    split = read_name(name)
                    if split is not None:
                        keys += (self._version + name, self._store.layout.places[split[0]].values)
                        named += (name, encode(split[1]))
                await self._ask(b"EVAL", FORGET, len(keys), *keys, self._keep, old, since, *named)
            self._after = names[-1] if len(names) == FORGOTTEN else b""
            if not self._after:
                return

    async def _ask(self, *command: str | bytes | int) -> Any:
        return await self._store.ask(self._bucket, *command)


async def erase(store: RedisStore) -> None:
    """Remove the versions of a store, whoever kept them."""
    for bucket in store.layout.buckets:
        stem = bucket.stream.removesuffix(b"changes")
        names_key = stem + b"history"
        while names := await store.ask(bucket, b"ZRANGEBYLEX", names_key, b"-", b"+", b"LIMIT", 0, FORGOTTEN):
            await store.ask(bucket, b"UNLINK", *(stem + b"version:" + name for name in names))
            await store.ask(bucket, b"ZREM", names_key, *names)
        await store.ask(bucket, b"UNLINK", names_key, *(names_key + more for more in BESIDE))
