"""Merge: three versions of a text become one; pure.

Where only one side changed the base, that side wins; where both did the same, it is taken once; where they
differ, both stay, between conflict markers. No line of either side is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

Lines = Sequence[str]
MARKER = "<<<<<<< yours"
"""The line that opens a conflict."""


@dataclass(frozen=True)
class Merged:
    """The merged text and how many places are in conflict."""

    text: str
    conflicts: int


def merge(base: str, yours: str, template: str, *, label: str) -> Merged:
    """Merge what you and the template made of `base`; `label` names the template in the markers.

    A text of yours whose lines all end in CRLF is merged as if they ended as the template's, and keeps CRLF.
    """
    if 0 < yours.count("\n") == yours.count("\r\n") and "\r\n" not in template:
        merged = merge(base, yours.replace("\r\n", "\n"), template, label=label)
        return Merged(merged.text.replace("\n", "\r\n"), merged.conflicts)
    lines: list[str] = []
    conflicts = 0
    for old, mine, new in _chunks(*(text.splitlines(keepends=True) for text in (base, yours, template))):
        if mine in (old, new):
            lines += new
        elif new == old:
            lines += mine
        else:
            conflicts += 1
            lines += [f"{MARKER}\n", *_ended(mine), "=======\n", *_ended(new), f">>>>>>> {label}\n"]
    return Merged("".join(lines), conflicts)


def _ended(lines: Lines) -> list[str]:
    """The lines, the last one with a line end, so that a marker starts a line of its own."""
    ended = list(lines)
    if ended and not ended[-1].endswith("\n"):
        ended[-1] += "\n"
    return ended


def _chunks(base: Lines, yours: Lines, template: Lines) -> Iterator[tuple[Lines, Lines, Lines]]:
    """Cut the three texts at the runs that all of them share."""
    at = mine_at = new_at = 0
    for start, mine_start, new_start, length in _shared(base, yours, template):
        yield base[at:start], yours[mine_at:mine_start], template[new_at:new_start]
        at, mine_at, new_at = start + length, mine_start + length, new_start + length
        run = base[start:at]
        yield run, run, run


def _shared(base: Lines, yours: Lines, template: Lines) -> Iterator[tuple[int, int, int, int]]:
    """Runs of the base that both sides kept, then an empty one at the end: base, yours, template, length."""
    mine = SequenceMatcher(None, base, yours, autojunk=False).get_matching_blocks()
    new = SequenceMatcher(None, base, template, autojunk=False).get_matching_blocks()
    one = two = 0
    while one < len(mine) and two < len(new):
        start = max(mine[one].a, new[two].a)
        end = min(mine[one].a + mine[one].size, new[two].a + new[two].size)
        if start < end:
            yield start, mine[one].b + start - mine[one].a, new[two].b + start - new[two].a, end - start
        if mine[one].a + mine[one].size < new[two].a + new[two].size:
            one += 1
        else:
            two += 1
    yield len(base), len(yours), len(template), 0
