"""Where state lies in Redis: the names of the keys that hold one scope.

`engine`: hash `state:<scope>`, as a real iii engine has it. Beside it `iii:order:<scope>` (sorted set: order
of first insertion), `iii:scopes` (set) and `iii:changes` (stream); none of them starts with `state:`, because
the engine takes every such key for a scope. `cluster`: the same four below `iii:{0}:` ... `iii:{15}:`, one
hash tag for each of 16 buckets, so that all keys of a scope, its index and its stream are on one node.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

BUCKETS = 16


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


def bulk(raw: bytes) -> bytes:
    """One argument of a packed command."""
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class Place:
    """The keys of one scope, and the parts of packed commands that are the same for all its keys."""

    __slots__ = ("bucket", "declared", "hget", "order", "scope", "values")

    def __init__(self, bucket: Bucket, scope: bytes) -> None:
        self.bucket = bucket
        self.values = bucket.values + scope
        self.order = bucket.order + scope
        self.hget = b"*3\r\n$4\r\nHGET\r\n" + bulk(self.values)
        self.declared = b"$1\r\n4\r\n" + b"".join(
            map(bulk, (self.values, self.order, bucket.index, bucket.stream))
        )
        """The keys that a script declares."""
        self.scope = bulk(scope)


class Layout:
    """From a scope to its keys."""

    def __init__(self, name: Literal["engine", "cluster"], prefix: str) -> None:
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
                )
            ]
        else:
            self.buckets = [_cluster_bucket(number, start) for number in range(BUCKETS)]
        self._places: dict[str, Place] = {}

    def place(self, scope: str) -> Place:
        """The keys of `scope`; the last few thousand are remembered."""
        place = self._places.get(scope)
        if place is None:
            raw = encode(scope)
            bucket = self.buckets[zlib.crc32(raw) % len(self.buckets)]
            place = Place(bucket, raw)
            if len(self._places) >= 4096:
                del self._places[next(iter(self._places))]
            self._places[scope] = place
        return place


def _cluster_bucket(number: int, start: bytes) -> Bucket:
    stem = start + b"iii:{%d}:" % number
    return Bucket(number, stem + b"state:", stem + b"order:", stem + b"scopes", stem + b"changes")
