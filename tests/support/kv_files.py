"""Write what the real engine's adapter `kv` leaves in its directory: one archived string for each scope."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote


def archived(text: bytes) -> bytes:
    """The archived form of a string."""
    if len(text) <= 8:
        return text.ljust(8, b"\xff")
    padded = text + b"\0" * (-len(text) % 4)
    marked = (len(text) & 0x3F) | 0x80 | (len(text) & ~0x3F) << 2
    return padded + struct.pack("<Ii", marked, -len(padded))


def file_name(scope: str) -> str:
    """The engine's file name of a scope."""
    return quote(scope, safe="").replace("~", "%7E") + ".bin"


def write_scope(directory: Path, scope: str, pairs: Mapping[str, str]) -> Path:
    """Write a scope from keys to the JSON text of their values."""
    import orjson

    members = b",".join(orjson.dumps(key) + b":" + value.encode() for key, value in pairs.items())
    path = directory / file_name(scope)
    path.write_bytes(archived(b"{" + members + b"}"))
    return path
