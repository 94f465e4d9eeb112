"""Checksums: what proves that a row is the one that was written, and the number that stands for its name."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final
from zlib import crc32

_PRIME: Final = (1 << 61) - 1
_FACTOR: Final = 0x1F3D5B79A9C8E7D6


def name_number(scope: str, key: str) -> int:
    """64 bits of a digest, signed: the second way to a row, and the proof of its key without its value."""
    scope_bytes = scope.encode()
    text = b"%d:%b%b" % (len(scope_bytes), scope_bytes, key.encode())
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def name_checksum(scope: str, key: str) -> int:
    """What the checksum of a row starts from."""
    return crc32(key.encode(), crc32(scope.encode(), len(scope)))


def row_checksum(start: int, position: int, revision: int, value: bytes) -> int:
    """Over all of a row: `start` is its `name_checksum`. A changed bit anywhere changes it."""
    return crc32(value, start) ^ (revision * _FACTOR + position) % _PRIME


def revision_checksum(revision: int) -> int:
    """Over the revision that the store claims."""
    return (revision * _FACTOR + 1) % _PRIME
