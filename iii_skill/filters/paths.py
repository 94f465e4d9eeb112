"""Paths of the filter language: `input.items.0.name`, and what they find in a document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from iii_skill.filters.errors import InvalidFilter

ROOTS: Final = ("input", "output", "error", "caller", "metadata")

ELEMENT: Final = "@"
"""The root of a path inside `$any`: the element of the array."""

MOST_SEGMENTS: Final = 16


class Document(Protocol):
    """The parts of a call by root; a part that is missing is absent, None is the value null."""

    def get(self, root: str, default: Any, /) -> Any:
        """The decoded part, or the default."""


Resolve: TypeAlias = Callable[[Document, Any], Any]
"""Document and current element of `$any` to the value at the path, or ABSENT."""


class Absent:
    """The type of ABSENT."""


ABSENT: Final = Absent()
"""What a path finds where there is nothing, unlike None, which is null."""

_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,14})", re.ASCII)


class Path(msgspec.Struct, frozen=True, gc=False):
    """A path as written, its root and its segments without escapes."""

    text: str
    root: str
    segments: tuple[str, ...]

    @property
    def written_segments(self) -> tuple[str, ...]:
        """The segments with their escapes, as messages show them."""
        return tuple(segment.replace("\\", "\\\\").replace(".", "\\.") for segment in self.segments)


def parse_path(text: str, *, inside_any: bool) -> Path:
    """The path of a clause; raises InvalidFilter."""
    root, *segments = _split(text)
    if inside_any and root != ELEMENT:
        raise InvalidFilter(f"path `{text}`: inside `$any` a path starts with `@`, the element")
    if not inside_any and root == ELEMENT:
        raise InvalidFilter(
            f"path `{text}`: `@` is the element of an array, and means nothing outside `$any`"
        )
    if not inside_any and root not in ROOTS:
        raise InvalidFilter(
            f"path `{text}`: unknown root `{root}` (expected input, output, error, caller or metadata)"
        )
    if len(segments) > MOST_SEGMENTS:
        raise InvalidFilter(f"path `{text}`: more than {MOST_SEGMENTS} segments")
    return Path(text, root, tuple(segments))


def index_of(segment: str) -> int | None:
    """The index of an array element that a segment names: a canonical decimal of at most 15 digits."""
    return int(segment) if _INDEX.fullmatch(segment) else None


def resolver(path: Path) -> Resolve:
    """How to find the value of a path."""
    root = path.root
    steps = tuple((segment, index_of(segment)) for segment in path.segments)
    if root == ELEMENT:
        return lambda _document, element: _walk(element, steps)
    if len(steps) == 1:
        # The most frequent form: a member of the payload.
        segment, index = steps[0]

        def member(document: Document, _element: Any) -> Any:
            part = document.get(root, ABSENT)
            return part.get(segment, ABSENT) if type(part) is dict else _step(part, segment, index)

        return member
    return lambda document, _element: _walk(document.get(root, ABSENT), steps)


def _walk(value: Any, steps: tuple[tuple[str, int | None], ...]) -> Any:
    for segment, index in steps:
        value = _step(value, segment, index)
        if value is ABSENT:
            return ABSENT
    return value


def _step(value: Any, segment: str, index: int | None) -> Any:
    if type(value) is dict:
        return value.get(segment, ABSENT)
    if type(value) is list and index is not None and index < len(value):
        return value[index]
    return ABSENT


def _split(text: str) -> list[str]:
    parts: list[str] = []
    part = ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            part += _escaped(next(characters, ""), text)
        elif character == ".":
            parts.append(part)
            part = ""
        else:
            part += character
    parts.append(part)
    if "" in parts:
        raise InvalidFilter(f"path `{text}`: empty segment")
    return parts


def _escaped(character: str, text: str) -> str:
    if character not in ("\\", ".") or not character:
        raise InvalidFilter(f"path `{text}`: `\\` escapes `.` and `\\` only")
    return character
