"""WebSocket text frames made by hand, so that all texts of one tick leave in one write."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

FRAGMENT = 8 * 1024 * 1024
"""Longer texts leave in fragments: the Rust SDK takes no frame over 16 MiB."""

AT_ONCE = 32
"""So many texts do not wait for the end of the turn: whoever gets them works on them meanwhile."""

QUIET = logging.getLogger("picows.quiet")
"""Where picows logs: errors only, since every connection is a line otherwise."""
QUIET.setLevel(logging.ERROR)

_TEXT, _CONTINUATION, _FINAL = 0x1, 0x0, 0x80


def text_frames(texts: Iterable[bytes]) -> bytes:
    """The bytes on the wire of several text messages."""
    parts: list[bytes] = []
    for text in texts:
        size = len(text)
        if size < 126:
            parts.append(bytes((0x81, size)))
            parts.append(text)
        elif size < 65536:
            parts.append(b"\x81\x7e" + size.to_bytes(2, "big"))
            parts.append(text)
        elif size <= FRAGMENT:
            parts.append(b"\x81\x7f" + size.to_bytes(8, "big"))
            parts.append(text)
        else:
            _fragments(text, parts)
    return b"".join(parts)


def _fragments(text: bytes, parts: list[bytes]) -> None:
    for start in range(0, len(text), FRAGMENT):
        piece = text[start : start + FRAGMENT]
        opcode = _TEXT if start == 0 else _CONTINUATION
        last = _FINAL if start + FRAGMENT >= len(text) else 0
        parts.append(bytes((opcode | last, 127)) + len(piece).to_bytes(8, "big"))
        parts.append(piece)


def masked_text_frames(texts: Iterable[bytes]) -> bytes:
    """The same from a client, which masks every frame with a key of its own."""
    parts: list[bytes] = []
    for text in texts:
        for start in range(0, max(len(text), 1), FRAGMENT):
            piece = text[start : start + FRAGMENT]
            opcode = _TEXT if start == 0 else _CONTINUATION
            last = _FINAL if start + FRAGMENT >= len(text) else 0
            size = len(piece)
            if size < 126:
                head = bytes((opcode | last, 0x80 | size))
            elif size < 65536:
                head = bytes((opcode | last, 0xFE)) + size.to_bytes(2, "big")
            else:
                head = bytes((opcode | last, 0xFF)) + size.to_bytes(8, "big")
            key = secrets.token_bytes(4)
            parts += (head, key, _masked(piece, key))
    return b"".join(parts)


def _masked(piece: bytes, key: bytes) -> bytes:
    size = len(piece)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(piece, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
