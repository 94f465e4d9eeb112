"""Read the files in which the real engine keeps a scope: one archived string that holds a JSON object.

The last eight bytes describe the string. Up to eight bytes of text are there themselves, filled up with
0xff. Longer text stands before them: four bytes of length, whose lowest byte has the bits 10 put above its
lower six bits, then four bytes with the distance from the description to the text. All numbers are
little-endian.
"""

from __future__ import annotations

import struct

import msgspec

TRAILER = 8
LARGEST = (1 << 30) + TRAILER
"""Bytes of a file: the length of its text has thirty bits."""

_LONG = 0x80
_MARK = 0xC0
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Damaged(Exception):
    """Something cannot be moved; the message says why, in words for the user."""


def read_scope(data: bytes) -> list[tuple[str, bytes]]:
    """The pairs of a scope file in stored order, values as their exact bytes; Damaged says what is wrong."""
    text = read_text(data)
    try:
        text.decode()
        pairs = _OBJECT.decode(text)
    except UnicodeDecodeError:
        raise Damaged("its text is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged(f"its text is not a JSON object: {error}") from None
    return [(key, bytes(value)) for key, value in pairs.items()]


def read_text(data: bytes) -> bytes:
    """The text of an archived string; Damaged when the bytes are not one, whole."""
    if len(data) < TRAILER:
        raise Damaged(f"it has {len(data)} bytes, which is too short for any content")
    start = len(data) - TRAILER
    trailer = data[start:]
    if trailer[0] & _MARK != _LONG:
        text = trailer.rstrip(b"\xff")
        if start or b"\xff" in text:
            raise Damaged("its end is not that of a file of the engine; it was cut off or overwritten")
        return text
    marked, distance = struct.unpack("<Ii", trailer)
    length = (marked & 0x3F) | (marked & ~0xFF) >> 2
    begin = start + distance
    if begin != 0 or length <= TRAILER or not 0 <= start - length < 4 or any(data[length:start]):
        raise Damaged("its length does not fit its content; it was cut off or overwritten")
    return data[:length]
