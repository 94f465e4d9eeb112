"""WebSocket text frames made by hand, so that all texts of one tick leave in one write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

FRAGMENT = 8 * 1024 * 1024
"""Longer texts leave in fragments: the Rust SDK takes no frame over 16 MiB."""

_TEXT, _CONTINUATION, _FINAL = 0x1, 0x0, 0x80

_USUAL = 1024
"""Bytes of a text below which the start of its frame is looked up: most texts are that short."""


def text_frames(texts: Iterable[bytes]) -> bytes:
    """The bytes on the wire of several text messages."""
    parts: list[bytes | memoryview] = []
    for text in texts:
        size = len(text)
        if size < _USUAL:
            parts.append(_STARTS[size])
            parts.append(text)
        elif size < 65536:
            parts.append(_start(_FINAL | _TEXT, size))
            parts.append(text)
        else:
            parts += long_text_frames(text)
    return b"".join(parts)


def long_text_frames(text: bytes) -> list[bytes | memoryview]:
    """The same of one text from 64 KiB on, in parts: it need not be copied once more to leave."""
    parts: list[bytes | memoryview] = []
    for head, piece in _pieces(text):
        parts.append(_start(head, len(piece)))
        parts.append(piece)
    return parts


def masked_text_frames(texts: Iterable[bytes]) -> bytes:
    """The same from a client, which masks every frame with a key of its own."""
    parts: list[bytes] = []
    for text in texts:
        if len(text) < 126:
            # The short way of what most texts of a worker are.
            key = os.urandom(4)
            parts += (bytes((0x81, 0x80 | len(text))), key, _masked(text, key))
            continue
        for head, piece in _pieces(text):
            key = os.urandom(4)
            parts += (_start(head, len(piece), 0x80), key, _masked(piece, key))
    return b"".join(parts)


def masked_pong(body: bytes) -> bytes:
    """The answer of a client to a ping, which has at most 125 bytes."""
    key = os.urandom(4)
    return bytes((0x8A, 0x80 | len(body))) + key + _masked(body, key)


def _start(head: int, size: int, mask: int = 0) -> bytes:
    """The start of a frame: its first byte, and the size in the shortest form."""
    if size < 126:
        return bytes((head, mask | size))
    if size < 65536:
        return bytes((head, mask | 126)) + size.to_bytes(2, "big")
    return bytes((head, mask | 127)) + size.to_bytes(8, "big")


def _pieces(text: bytes) -> Iterator[tuple[int, bytes | memoryview]]:
    """The fragments of a text, each with the first byte of its frame."""
    if len(text) <= FRAGMENT:
        yield _FINAL | _TEXT, text
        return
    view = memoryview(text)
    for start in range(0, len(text), FRAGMENT):
        opcode = _TEXT if start == 0 else _CONTINUATION
        last = _FINAL if start + FRAGMENT >= len(text) else 0
        yield opcode | last, view[start : start + FRAGMENT]


def _masked(piece: bytes | memoryview, key: bytes) -> bytes:
    size = len(piece)
    mask = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(piece, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


_STARTS = [_start(_FINAL | _TEXT, size) for size in range(_USUAL)]
