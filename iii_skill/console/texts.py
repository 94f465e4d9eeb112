"""Values as texts: how a stored value is shown, what a typed text is stored as, and where it is wrong.

No number and no string of a value is ever read and written again: its layout alone changes.
"""

from __future__ import annotations

import difflib
import re

import msgspec
import orjson

from iii_skill.errors import ValueRefused
from iii_skill.json_slices import SLICE
from iii_skill.readable import check_nesting, fits, unreadable_because
from iii_skill.state.three_way import Overlap, merged

LARGEST = 2 * 1024 * 1024
"""Bytes of a value that a page may edit."""

LONGEST_LAID_OUT = 8 * 1024 * 1024
_SHALLOW = 16
_MOST_LINES = 2_000
"""Lines of a text that are compared with those of another."""

_BYTE = re.compile(r" \(byte (\d+)\)$")


class Invalid(Exception):
    """A text is no JSON that can be stored; `line` and `column` count from 1, `offset` in UTF-16 units."""

    def __init__(self, message: str, text: str, position: int | None) -> None:
        super().__init__(message)
        self.message = message
        at = min(len(text) if position is None else position, len(text))
        before = text[:at]
        self.line = before.count("\n") + 1
        self.column = at - (before.rfind("\n") + 1) + 1
        self.offset = len(before.encode("utf-16-le")) // 2


class Shown(msgspec.Struct, frozen=True):
    """A value as it is shown. `laid_out`: the layout is ours, and the value is stored without it."""

    text: str
    laid_out: bool


def shown(value: bytes) -> Shown:
    """The text of a value: indented, unless whoever stored it has laid it out in lines himself."""
    if b"\n" not in value and _stays_small(value):
        return Shown(msgspec.json.format(value, indent=2).decode(), laid_out=True)
    return Shown(value.decode("utf-8", "replace"), laid_out=False)


def indented(value: bytes) -> str:
    """The text of an answer, indented whatever its layout was, unless that would make a giant of it."""
    text = msgspec.json.format(value, indent=2) if _stays_small(value) else value
    return text.decode("utf-8", "replace")


def laid_out(text: str) -> str:
    """A typed text, indented; Invalid says where it is none."""
    return indented(checked(text))


def stored(text: str, *, laid_out: bool) -> bytes:
    """The bytes that a typed text is stored as; Invalid says where it is wrong."""
    value = checked(text)
    return msgspec.json.format(value, indent=-1) if laid_out else value


def checked(text: str) -> bytes:
    """The bytes of a text that every SDK can read; Invalid says where it is wrong."""
    stripped = text.strip(" \t\r\n")
    lead = len(text) - len(text.lstrip(" \t\r\n"))
    value = stripped.encode("utf-8", "surrogatepass")
    if not value:
        raise Invalid("there is no value: type one as JSON", text, len(text))
    if len(value) <= SLICE:
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Invalid(error.msg, text, lead + error.pos) from None
    else:
        try:
            msgspec.json.decode(value, type=msgspec.Raw)
        except msgspec.DecodeError as error:
            found = _BYTE.search(str(error))
            position = None
            if found is not None:
                position = lead + len(value[: int(found[1])].decode("utf-8", "ignore"))
            message = _BYTE.sub("", str(error)).removeprefix("JSON is malformed: ")
            raise Invalid(message, text, position) from None
        why = unreadable_because(value)
        if why is not None:
            raise Invalid(why, text, 0)
    try:
        check_nesting(value)
    except ValueRefused as error:
        raise Invalid(error.message, text, 0) from None
    return value


class Merge(msgspec.Struct, frozen=True):
    """What became of two changes to one value: the merged text, or the pointer of what both changed."""

    merged: str | None
    overlap: str | None
    theirs_lines: list[int]
    """Lines of their text, from 0, that are not in the base."""
    mine_lines: list[int]


def merge(base: bytes | None, theirs: bytes | None, mine: bytes) -> Merge:
    """Put two changes to one value together; None: there was, or is, no value."""
    text, overlap = None, None
    if base is None or theirs is None:
        overlap = ""
    else:
        try:
            sides = [msgspec.json.format(one, indent=-1) for one in (base, theirs, mine)]
            text = shown(merged(sides[0], sides[1], sides[2])).text
        except Overlap as error:
            overlap = str(error)
    old = "" if base is None else shown(base).text
    left = [] if theirs is None else _new_lines(old, shown(theirs).text)
    return Merge(text, overlap, left, _new_lines(old, shown(mine).text))


class Line(msgspec.Struct, frozen=True):
    """A line of a difference: `+` only now, `-` only then, `=` in both, `gap` for so many left out."""

    kind: str
    text: str = ""
    gap: int = 0


class Difference(msgspec.Struct, frozen=True):
    """What is different from then to now; of long texts the beginning of then, and `compared` is False."""

    compared: bool
    lines: list[Line]


_AROUND = 3
"""Equal lines that are shown around different ones."""

_LONGEST_LINE = 2_000
"""Characters of a line that are shown."""


def difference(then: bytes | None, now: bytes | None, *, whole: bool) -> Difference:
    """The lines of two values, None for no value; `whole`: all of those that are equal."""
    before, after = _lines_of(then), _lines_of(now)
    if max(len(before), len(after)) > _MOST_LINES or max(len(then or b""), len(now or b"")) > LARGEST:
        return Difference(False, [_line("=", line) for line in before[:_MOST_LINES]])
    lines: list[Line] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=True)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            lines += _equal(before[start:end], whole=whole, first=start == 0, last=end == len(before))
        else:
            lines += [_line("-", line) for line in before[start:end]]
            lines += [_line("+", line) for line in after[new_start:new_end]]
    return Difference(True, lines)


def _lines_of(value: bytes | None) -> list[str]:
    """The lines of a value as it is shown; the beginning of one that is too large for that."""
    if value is None:
        return []
    if len(value) > LARGEST:
        return value[:LARGEST].decode("utf-8", "ignore").split("\n")
    return shown(value).text.split("\n")


def _equal(lines: list[str], *, whole: bool, first: bool, last: bool) -> list[Line]:
    """Equal lines, without those that lie far from different ones."""
    head, tail = 0 if first else _AROUND, 0 if last else _AROUND
    gap = len(lines) - head - tail
    if whole or gap <= 1:
        return [_line("=", line) for line in lines]
    left = [_line("=", line) for line in lines[:head]]
    right = [_line("=", line) for line in lines[len(lines) - tail :]]
    return [*left, Line("gap", gap=gap), *right]


def _line(kind: str, text: str) -> Line:
    return Line(kind, text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…")


def _new_lines(old: str, new: str) -> list[int]:
    """The numbers of lines that are not in the old text; none for long texts."""
    before, after = old.split("\n"), new.split("\n")
    if max(len(before), len(after)) > _MOST_LINES:
        return []
    found: list[int] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=True)
    for tag, _, _, start, end in matcher.get_opcodes():
        if tag in ("replace", "insert"):
            found += range(start, end)
    return found


def _stays_small(value: bytes) -> bool:
    """True when the value laid out is no giant: each line of it begins with two blanks a level."""
    if len(value) <= SLICE // 8:
        return True
    lines = value.count(b",") + 2 * (value.count(b"[") + value.count(b"{"))
    return len(value) + lines * 2 * _SHALLOW <= LONGEST_LAID_OUT and fits(value, _SHALLOW)
