"""Checksums: what proves that a row is the one that was written."""

from __future__ import annotations

from typing import Final
from zlib import crc32

_PRIME: Final = 4294967291
"""No power of two is a multiple of it: one changed bit of a number changes what is left of it, too."""


def name_checksum(scope: str, key: str) -> int:
    """What the checksum of a row starts from."""
    return crc32(key.encode(), crc32(scope.encode(), len(scope)))


def row_checksum(start: int, position: int, revision: int, value: bytes) -> int:
    """Over all of a row: `start` is its `name_checksum`. A changed bit anywhere changes it."""
    return crc32(value, start ^ (revision * 5 + position) % _PRIME)


def expiry_checksum(position: int, at_ms: int) -> int:
    """Over the end of the key at a position."""
    return row_checksum(1, position, at_ms, b"")


def revision_checksum(revision: int) -> int:
    """Over the revision that the store claims."""
    return row_checksum(0, 0, revision, b"")
