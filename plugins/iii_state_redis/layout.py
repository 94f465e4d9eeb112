"""Where state lies in Redis: the names of the keys that hold one scope.

`engine`: hash `state:<scope>`, as a real iii engine has it. Beside it `iii:order:<scope>` (sorted set: order
of first insertion), `iii:scopes` (set) and `iii:changes` (stream); none of them starts with `state:`, because
the engine takes every such key for a scope. Changes of private scopes have the stream `iii:changes:private`,
so that who follows state does not read them, and the other way round. `cluster`: the same below `iii:{0}:`
... `iii:{15}:`, one hash tag for each of 16 buckets, so that all keys of a scope, its index and its streams
are on one node.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from iii_skill.values import PRIVATE_SCOPES

from .scripts import BLIND, SWAP

BUCKETS = 16
MOST_PLACES = 4096


def encode(text: str) -> bytes:
    """UTF-8; a lone surrogate passes, so that every Python string has a place."""
    return text.encode("utf-8", "surrogatepass")


def decode(raw: bytes) -> str | None:
    """What `encode` wrote; None for bytes that no string has."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Keys that share an index and a stream, and in a cluster a node."""

    number: int
    values: bytes
    """Prefix of the hashes."""
    order: bytes
    """Prefix of the sorted sets."""
    index: bytes
    stream: bytes
    ends: bytes


def bulk(raw: bytes) -> bytes:
    """One argument of a packed command."""
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class PackedPlace:
    """The keys of one scope, and the packed commands for one of its keys."""

    __slots__ = ("_get", "_swap", "_swap_one", "_write", "bucket", "order", "tail", "values")

    def __init__(self, bucket: Bucket, scope: bytes, length: bytes) -> None:
        self.bucket = bucket
        self.values = bucket.values + scope
        self.order = bucket.order + scope
        # What is the same for all keys is packed once.
        self._get = b"*3\r\n$4\r\nHGET\r\n" + bulk(self.values)
        keys = (self.values, self.order, bucket.index, bucket.stream)
        declared = b"$1\r\n4\r\n" + b"".join(map(bulk, keys))
        self._write = b"*11\r\n" + BLIND.call + declared
        self._swap = SWAP.call + declared
        self._swap_one = b"*12\r\n" + self._swap
        self.tail = bulk(scope) + bulk(length)

    def get_value(self, key: str) -> bytes:
        """The command that reads a key."""
        raw = key.encode("utf-8", "surrogatepass")
        return b"%b$%d\r\n%b\r\n" % (self._get, len(raw), raw)

    def write_value(self, key: str, value: bytes) -> bytes:
        """The command that writes a key whatever is there (empty: deletes it)."""
        raw = key.encode("utf-8", "surrogatepass")
        parts = (self._write, len(raw), raw, self.tail, len(value), value)
        return b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n" % parts

    def swap(self, key: str, values: Sequence[bytes]) -> bytes:
        """The command that compares the first value and writes the others in turn (empty: deletes)."""
        raw = key.encode("utf-8", "surrogatepass")
        rest = b"".join(map(bulk, values))
        parts = (10 + len(values), self._swap, len(raw), raw, self.tail, rest)
        return b"*%d\r\n%b$%d\r\n%b\r\n%b%b" % parts

    def swap_one(self, key: str, base: bytes, new: bytes) -> bytes:
        """The same for one value to write, in one go."""
        raw = key.encode("utf-8", "surrogatepass")
        parts = (self._swap_one, len(raw), raw, self.tail, len(base), base, len(new), new)
        return b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % parts


class Places(dict[str, PackedPlace]):
    """The place of each scope that is looked up; the last few thousand are remembered."""

    def __init__(self, buckets: Sequence[Bucket], private: Sequence[Bucket], length: bytes) -> None:
        super().__init__()
        self._buckets = buckets
        self._private = private
        self._length = length

    def __missing__(self, scope: str) -> PackedPlace:
        raw = encode(scope)
        buckets = self._private if scope.startswith(PRIVATE_SCOPES) else self._buckets
        place = PackedPlace(buckets[zlib.crc32(raw) % len(buckets)], raw, self._length)
        if len(self) >= MOST_PLACES:
            del self[next(iter(self))]
        self[scope] = place
        return place


class Layout:
    """From a scope to its keys."""

    def __init__(self, name: Literal["engine", "cluster"], prefix: str, *, stream_length: int) -> None:
        self.name = name
        start = encode(prefix)
        if name == "engine":
            self.buckets = [
                Bucket(
                    0,
                    start + b"state:",
                    start + b"iii:order:",
                    start + b"iii:scopes",
                    start + b"iii:changes",
                    start + b"iii:expires",
                )
            ]
        else:
            self.buckets = [_cluster_bucket(number, start) for number in range(BUCKETS)]
        self.private = [replace(bucket, stream=bucket.stream + b":private") for bucket in self.buckets]
        """The same buckets with the streams of private scopes."""
        self.places = Places(self.buckets, self.private, b"%d" % stream_length)


def _cluster_bucket(number: int, start: bytes) -> Bucket:
    stem = start + b"iii:{%d}:" % number
    return Bucket(
        number, stem + b"state:", stem + b"order:", stem + b"scopes", stem + b"changes", stem + b"expires"
    )
