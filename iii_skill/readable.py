"""What every SDK can read back: valid UTF-8, no lone surrogate, doubles, at most MAX_NESTING levels.

Texts up to one slice are read in one go; longer ones a slice at a time (json_slices), so that no text takes
more memory than it has bytes. Where texts of others come in, whoever has a loop to keep free waits for
`inspect`; everyone else goes through all slices at once.
"""

from __future__ import annotations

import asyncio
import codecs
from weakref import WeakKeyDictionary

import msgspec
import orjson

from iii_skill.errors import ValueRefused
from iii_skill.json_slices import READER_LEVELS, SLICE, Slice, TooDeep, Unreadable, check, checking
from iii_skill.outline import Outline

MAX_NESTING = 125
"""Levels of arrays and objects in a value; the frames around it take two more of the 127 that SDKs read."""

SHALLOW = 64
"""Levels that nothing legitimate comes near to."""

WHY_UNREADABLE = (
    "it holds JSON that not every SDK can read (a lone surrogate, a number out of double range, "
    "invalid UTF-8, or more than 125 levels)."
)

SURELY_FLAT = 2 * MAX_NESTING
"""Bytes that cannot nest too deep: no level takes less than two."""

_utf8 = codecs.getincrementaldecoder("utf-8")

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""One long text at a time in each loop: ten at once would take ten slices in every turn."""


def check_value(encoded: bytes) -> None:
    """Accept the encoded JSON of one value; ValueRefused says why it cannot be read back by everyone."""
    check_readable(encoded)
    if len(encoded) > SURELY_FLAT:
        check_nesting(encoded)


def readable(payload: bytes) -> bool:
    """True when every SDK can read the encoded payload back."""
    if len(payload) <= SURELY_FLAT:
        try:
            orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        return True
    try:
        check_value(payload)
    except ValueRefused:
        return False
    return True


def listable(encoded: bytes) -> bool:
    """True for what may stand in a row of a listing, two levels deeper than a payload."""
    return readable(b"[[%b]]" % encoded)


def is_utf8(text: bytes) -> bool:
    """True for valid UTF-8, however long it is."""
    if text.isascii():
        return True
    decoder, view = _utf8(), memoryview(text)
    try:
        for start in range(0, len(text), SLICE):
            decoder.decode(view[start : start + SLICE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def unreadable_because(encoded: bytes) -> str | None:
    """The reader's words for what not every SDK can read, or None; no look at the nesting."""
    try:
        if len(encoded) <= SLICE:
            orjson.loads(encoded)
        else:
            check(encoded, READER_LEVELS)
    except (orjson.JSONDecodeError, Unreadable) as error:
        return str(error)
    return None


def check_readable(encoded: bytes) -> None:
    """Accept valid UTF-8 without lone surrogates whose numbers are doubles; no look at the nesting."""
    if len(encoded) > SLICE:
        fault = unreadable_because(encoded)
        if fault is not None:
            raise ValueRefused(_unreadable(fault))
        return
    try:
        orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        raise ValueRefused(_unreadable(str(error))) from None


def check_nesting(encoded: bytes) -> None:
    """Accept readable JSON of at most MAX_NESTING levels."""
    if len(encoded) <= SURELY_FLAT:
        return
    if encoded.count(b"[") + encoded.count(b"{") > MAX_NESTING and not fits(encoded, MAX_NESTING):
        raise ValueRefused(TOO_DEEP)


def fits(encoded: bytes, levels: int) -> bool:
    """True when readable JSON nests at most so many levels: the reader's own limit does the counting."""
    outer = READER_LEVELS - levels
    try:
        if len(encoded) <= SLICE:
            orjson.loads(b"[" * outer + encoded + b"]" * outer)
        else:
            check(encoded, levels)
    except (orjson.JSONDecodeError, Unreadable):
        return False
    return True


class Inspected(msgspec.Struct, frozen=True):
    """What is known of a long text: its outline, and why it cannot be read or a bound of its levels."""

    outline: Outline
    fault: str | None = None
    levels: int = 0


async def inspect(encoded: bytes, *, levels: int = MAX_NESTING) -> Inspected:
    """Look at a long text while the loop goes on between two slices; one text at a time."""
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = asyncio.Lock()
    async with turn:
        # Nearly every text is shallow, and then nobody has to count again what is put deeper into another.
        for bound in (SHALLOW, levels):
            slices: list[Slice] = []
            try:
                for one in checking(encoded, bound):
                    slices.append(one)
                    await asyncio.sleep(0)
            except TooDeep:
                continue
            except Unreadable as error:
                return Inspected(Outline(encoded, ()), _unreadable(str(error)))
            return Inspected(Outline(encoded, slices), None, bound)
    return Inspected(Outline(encoded, ()), TOO_DEEP)


def is_json(encoded: bytes) -> bool:
    """True for encoded JSON that every SDK can read, however deep it nests."""
    return unreadable_because(encoded) is None


def _unreadable(reason: str) -> str:
    return f"The value is not JSON that every SDK can read back, so it was not stored: {reason}."


TOO_DEEP = (
    f"The value is nested deeper than {MAX_NESTING} levels, which not every SDK can read back; "
    "it was not stored."
)
