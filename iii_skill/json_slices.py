"""Slices: JSON of any size, read a slice at a time, so that neither time nor memory depends on its size.

Rules: a slice ends behind a comma or inside a string. What is open there (`Open`) is all that the next slice
has to know: it is read as a JSON text of its own, with the open arrays and objects in front of it and closed
behind it. So the C reader of small texts checks every slice, and what it makes is dropped at once.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import msgspec
import orjson

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

SLICE = 128 * 1024
"""Bytes that are read at once: the densest ones take about 8 ms."""

READER_LEVELS = 1024
"""The deepest nesting that orjson reads; a test holds it to that."""

_PAIR_START, _PAIR_END = 1, 2
_PAIR = bytes((_PAIR_START, _PAIR_END))
_BACKSLASH = ord("\\")
_U = ord("u")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{}:,"))
_RUNS = re.compile(rb"[\[{]+|[\]}]+")
_CLOSING = bytes.maketrans(b"[{", b"]}")
_OPENERS = (b"[", b"{")
_ESCAPE = 12
"""No escape, a pair of surrogates included, is longer."""
_EASY_PAIRS = 4
"""Rounds that take innermost pairs away before the rest is walked run by run."""


class Unreadable(Exception):
    """The text is not JSON that every SDK can read; the argument says why."""


class TooDeep(Unreadable):
    """It is, but for its nesting."""


class Open:
    """What is open where a slice ends: brackets from the outside in, and the string that was cut, if any."""

    __slots__ = ("brackets", "lowest", "string")

    def __init__(self, brackets: bytes = b"", string: str = "", lowest: int = 0) -> None:
        self.brackets = brackets
        self.string = string
        """`key` or `value` when the cut is inside a string."""
        self.lowest = lowest
        """The fewest levels that were open since the cut before."""

    @property
    def before(self) -> bytes:
        """What opens it again in front of the next slice."""
        if not self.brackets:
            return b'"' if self.string else b""
        inner = self.brackets[-1:]
        head = self.brackets[:-1].replace(b"{", b'{"":') + inner
        if not self.string:
            return head
        return head + (b'"' if inner == b"[" or self.string == "key" else b'"":"')

    @property
    def after(self) -> bytes:
        """What closes it behind this slice."""
        closing = self.brackets.translate(_CLOSING)[::-1]
        if self.string:
            return b'"' + (b":0" if self.string == "key" else b"") + closing
        if not self.brackets:
            return b""
        return (b"0" if self.brackets[-1:] == b"[" else b'"":0') + closing


class Slice(msgspec.Struct, frozen=True):
    """One slice of a text: what was open before and after it, and the fewest levels open inside it."""

    start: int
    end: int
    before: Open
    after: Open

    @property
    def level(self) -> int:
        """The fewest levels that are open anywhere in it."""
        return self.after.lowest


def check(encoded: bytes, levels: int, *, slice_bytes: int = SLICE) -> None:
    """Accept JSON that every SDK can read, of at most so many levels; raises Unreadable or TooDeep."""
    for _ in checking(encoded, levels, slice_bytes=slice_bytes):
        pass


def checking(encoded: bytes, levels: int, *, slice_bytes: int = SLICE) -> Iterator[Slice]:
    """The same in steps: whoever drives it does something else between two of them.

    Each step gives the slice that was read; the last one, which ends the text, is not given.
    """
    start, opened, size = 0, Open(), slice_bytes
    while True:
        piece = encoded[start : start + size]
        if start + size >= len(encoded):
            _read_end(opened.before + piece, levels)
            return
        cut, following = _cut(piece, opened)
        if following is None:
            # Nowhere to cut: one number, white space or brackets without end. Look at more of it, unless it
            # is brackets: between two commas none can close that did not open there.
            if len(piece) > SLICE and piece.count(b"[") + piece.count(b"{") > len(piece) // 2:
                raise TooDeep(f"it is nested deeper than {levels} levels")
            size *= 2
            continue
        if not following.brackets and not following.string:
            raise Unreadable("more than one value")
        _read(opened.before + piece[:cut] + following.after, levels)
        yield Slice(start, start + cut, opened, following)
        start, opened, size = start + cut, following, slice_bytes


def compact_size(encoded: bytes, *, slice_bytes: int = SLICE) -> int:
    """Bytes of readable JSON written compactly in UTF-8, counted a slice at a time."""
    start, opened, size, total = 0, Open(), slice_bytes, 0
    while True:
        piece = encoded[start : start + size]
        if start + size >= len(encoded):
            return total + len(_encode(_decode(opened.before + piece))) - len(opened.before)
        cut, following = _cut(piece, opened)
        if following is None:
            size *= 2
            continue
        whole = opened.before + piece[:cut] + following.after
        total += len(_encode(_decode(whole))) - len(opened.before) - len(following.after)
        start, opened, size = start + cut, following, slice_bytes


def _read_end(text: bytes, levels: int) -> None:
    """The last slice; only here could more than one value pass for the content of the outer brackets."""
    _read(text, READER_LEVELS)
    if text.count(b"[") + text.count(b"{") > levels:
        _read(text, levels)


def _read(text: bytes, levels: int) -> None:
    """Read one slice; the reader's own limit, shortened by brackets around it, counts the levels."""
    outer = READER_LEVELS - levels
    collecting = gc.isenabled()
    # What is read is dropped at once: a collection in the middle of it would only look at all of it.
    gc.disable()
    try:
        orjson.loads(b"[" * outer + text + b"]" * outer)
    except orjson.JSONDecodeError:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Unreadable(_reason(error)) from None
        raise TooDeep(f"it is nested deeper than {levels} levels") from None
    finally:
        if collecting:
            gc.enable()


def _reason(error: orjson.JSONDecodeError) -> str:
    """The reader's words without a position: it counts from where the slice begins."""
    return error.msg


def _cut(piece: bytes, opened: Open) -> tuple[int, Open | None]:
    """Where the piece can be cut, and what is open there; None when there is no such place."""
    # Escaped quotes and backslashes are masked byte for byte, so that every quote left is a real one.
    masked = piece
    if piece.find(b"\\") >= 0:
        masked = piece.replace(b"\\\\", _PAIR).replace(b'\\"', _PAIR)
    parts = masked.split(b'"')
    # Parts at even places are outside of strings, unless the piece begins inside one.
    outside = 1 if opened.string else 0
    if (len(parts) - 1) % 2 != outside:
        return _cut_string(piece, masked, parts, opened)
    return _cut_at_comma(parts, len(parts) - 1, len(piece), opened)


def _cut_at_comma(parts: list[bytes], last: int, end: int, opened: Open) -> tuple[int, Open | None]:
    """Behind the last comma outside of strings; `last` is the last part outside, which ends at `end`."""
    place = last
    while place >= 0:
        start = end - len(parts[place])
        comma = parts[place].rfind(b",")
        if comma >= 0:
            outside = parts[place % 2 : place : 2]
            outside.append(parts[place][:comma])
            return start + comma + 1, Open(*_brackets(outside, opened.brackets))
        if place < 2:
            break
        end = start - 2 - len(parts[place - 1])
        place -= 2
    return 0, None


def _cut_string(piece: bytes, masked: bytes, parts: list[bytes], opened: Open) -> tuple[int, Open | None]:
    """The piece ends inside a string: cut it there, or in front of it when it has only just begun."""
    begun = len(piece) - len(parts[-1])
    if len(parts[-1]) < 4 * _ESCAPE:
        return _cut_at_comma(parts, len(parts) - 2, begun - 1, opened) if len(parts) > 1 else (0, None)
    cut = _inside(piece, masked, len(piece), begun)
    if cut is None:
        return 0, None
    if len(parts) == 1:
        return cut, Open(opened.brackets, opened.string, len(opened.brackets))
    outside = parts[1 if opened.string else 0 : len(parts) - 1 : 2]
    brackets, _, lowest = _brackets(outside, opened.brackets)
    structure = b"".join(outside[-2:]).translate(None, _NOT_STRUCTURE)
    is_key = brackets[-1:] == b"{" and structure[-1:] in (b"{", b",", b"")
    return cut, Open(brackets, "key" if is_key else "value", lowest)


def _inside(piece: bytes, masked: bytes, end: int, begun: int) -> int | None:
    """The last place in front of `end` where a string may be cut: between two characters, no pair broken."""
    for cut in range(end - 6, max(begun, end - 6 * _ESCAPE), -1):
        if piece[cut] & 0xC0 == 0x80 or masked[cut] == _PAIR_END:
            continue
        escape = masked.rfind(b"\\", max(begun, cut - 5), cut)
        if escape >= 0 and escape + (6 if masked[escape + 1] == _U else 2) > cut:
            continue
        before = piece[max(begun, cut - 6) : cut]
        if before[:2] == b"\\u" and before[2:4].lower() in (b"d8", b"d9", b"da", b"db"):
            continue
        return cut
    return None


def _brackets(outside: list[bytes], brackets: bytes) -> tuple[bytes, str, int]:
    """What is open after the parts outside of strings, no string, and the fewest levels open on the way.

    Raises Unreadable when they do not fit together.
    """
    rest = b"".join(outside).translate(None, _NOT_BRACKETS)
    for _ in range(_EASY_PAIRS):
        fewer = rest.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(rest):
            break
        rest = fewer
    begun = bool(brackets)
    lowest = len(brackets)
    for run in _RUNS.findall(rest):
        if begun and not brackets:
            raise Unreadable("more than one value")
        if run[:1] in _OPENERS:
            begun = True
            brackets += run
            if len(brackets) > READER_LEVELS:
                raise TooDeep(f"it is nested deeper than {READER_LEVELS} levels")
        elif brackets[-len(run) :].translate(_CLOSING)[::-1] != run:
            raise Unreadable("brackets that do not match")
        else:
            brackets = brackets[: -len(run)]
            lowest = min(lowest, len(brackets))
    return brackets, "", lowest
