"""How the engine names a JSON value that it did not expect: the texts inside its input errors."""

from __future__ import annotations

import unicodedata

import msgspec

I64_MIN = -(2**63)
I64_MAX = 2**63 - 1
U64_MAX = 2**64 - 1

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
_EXTENDING = ("Mn", "Me")

MAX_QUOTED = 1000
"""Characters of a caller's text that an error repeats."""


def describe(raw: bytes) -> str:
    """What stands after `invalid type:` for this encoded value."""
    first = raw[:1]
    if first == b"n":
        return "null"
    if first in b"tf":
        return f"boolean `{raw.decode()}`"
    if first == b'"':
        return f'string "{debug(cut(msgspec.json.decode(raw)))}"'
    if first == b"[":
        return "sequence"
    if first == b"{":
        return "map"
    return describe_number(raw)


def cut(text: str) -> str:
    """The text as far as an error quotes it; the engine quotes megabytes."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def describe_number(raw: bytes) -> str:
    """An integer of 64 bits, or a float, which always shows a point or an exponent."""
    whole = integer(raw)
    if whole is not None:
        return f"integer `{whole}`"
    return f"floating point `{shortest(float(raw))}`"


def integer(raw: bytes) -> int | None:
    """The number if the engine reads it as an integer; `-0` and what is beyond 64 bits it reads as floats."""
    if raw == b"-0" or any(mark in raw for mark in b".eE") or len(raw) > 20:
        return None
    whole = int(raw)
    return whole if I64_MIN <= whole <= U64_MAX else None


def shortest(number: float) -> str:
    """The shortest text that reads back as the same double, with an exponent like `1e-7`."""
    text = repr(number)
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    sign, digits = exponent[0], exponent[1:].lstrip("0")
    return f"{mantissa}e{sign}{digits}"


def debug(text: str) -> str:
    """The text with the escapes of a Rust debug string: what is invisible or combining is `\\u{hex}`."""
    return "".join(map(_escape, text))


def _escape(char: str) -> str:
    short = _SHORT_ESCAPES.get(char)
    if short is not None:
        return short
    if char.isprintable() and unicodedata.category(char) not in _EXTENDING:
        return char
    return f"\\u{{{ord(char):x}}}"
