"""Outline: a long JSON text with its depths left out, so that reading its first levels takes no time.

Reading a text of 64 MB for the sake of three fields takes a tenth of a second, however little is kept of it.
What was checked a slice at a time is known well enough to leave out the slices that lie deeper than a given
level: in their place stands a mark, and brackets and quotes that make the rest a JSON text again. Whoever
takes a value out of it gets the bytes of the text back for each mark.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from iii_skill.json_slices import Open, Slice

_CLOSING = bytes.maketrans(b"[{", b"]}")


class _Gap(msgspec.Struct, frozen=True):
    mark: bytes
    start: int
    end: int


class Short(msgspec.Struct, frozen=True):
    """A text with marks for what was left out of it."""

    text: bytes
    outline: Outline
    gaps: Sequence[_Gap]

    def restore(self, part: bytes) -> bytes:
        """The bytes of the whole text for a value that was taken out of the short one."""
        pieces: list[bytes | memoryview] = []
        view, done = memoryview(self.outline.text), 0
        for gap in self.gaps:
            found = part.find(gap.mark, done)
            if found >= 0:
                pieces += (part[done:found], view[gap.start : gap.end])
                done = found + len(gap.mark)
        return b"".join((*pieces, part[done:])) if pieces else part

    def span(self, part: bytes) -> tuple[int, int] | None:
        """Where a value that was taken out of the short text stands in the whole one; None: no mark in it."""
        for gap in self.gaps:
            found = part.find(gap.mark)
            if found >= 0:
                start = gap.start - found
                return start, start + len(part) + self._left_out(part)
        return None

    def _left_out(self, part: bytes) -> int:
        return sum(gap.end - gap.start - len(gap.mark) for gap in self.gaps if gap.mark in part)


class Outline:
    """What is known of a text that was checked in slices."""

    __slots__ = ("_slices", "text")

    def __init__(self, text: bytes, slices: Sequence[Slice]) -> None:
        self.text = text
        self._slices = slices

    def release(self) -> None:
        """Hold the text no more."""
        self.text = b""
        self._slices = ()

    def short(self, level: int, span: tuple[int, int] | None = None) -> Short:
        """The text, or a span of it, without what lies in `level` or more arrays and objects of the text."""
        start, end = span or (0, len(self.text))
        pieces: list[bytes] = []
        gaps: list[_Gap] = []
        token = secrets.token_hex(8).encode()
        done = start
        run: list[Slice] = []
        for one in (*self._slices, None):
            if one is not None and one.level >= level and start <= one.start and one.end <= end:
                run.append(one)
            elif run:
                lowest = min(part.level for part in run)
                mark = _mark(b"%b.%d" % (token, len(gaps)), run[0].before, run[-1].after, lowest)
                gaps.append(_Gap(mark, run[0].start, run[-1].end))
                pieces += (self.text[done : run[0].start], mark)
                done = run[-1].end
                run = []
        pieces.append(self.text[done:end])
        return Short(b"".join(pieces), self, gaps)


def _mark(token: bytes, before: Open, after: Open, lowest: int) -> bytes:
    """A string in place of slices; what they close is closed behind it, and opened what they open."""
    inner = before.brackets[-1:]
    if before.string:
        # It stands inside a string already.
        text = token + (b'":0' if before.string == "key" else b'"')
    else:
        text = b'"' + token + (b'":0' if inner == b"{" else b'"')
    text += before.brackets[lowest:].translate(_CLOSING)[::-1] + b","
    around = before.brackets[:lowest][-1:]
    for bracket in after.brackets[lowest:]:
        one = bytes((bracket,))
        text += (b'"":' if around == b"{" else b"") + one
        around = one
    if after.string:
        text += b'"' if around == b"[" or after.string == "key" else b'"":"'
    return text
