"""The path of a route: its segments, and which paths the real engine cannot hold."""

from __future__ import annotations

from enum import Enum

import msgspec

from iii_skill.errors import TriggerRefused

MAX_SEGMENTS = 256
"""Routing takes a stack frame for each segment of a route."""


class Kind(Enum):
    """What a segment matches."""

    LITERAL = "literal"
    PARAMETER = "parameter"
    REST = "rest"


class Segment(msgspec.Struct, frozen=True):
    """One part between slashes. `delivered`: the value appears in `path_params` (only `:name` does)."""

    kind: Kind
    text: str
    delivered: bool = False


def normal(api_path: str) -> str:
    """The path with its leading slash, which a configuration may leave out."""
    return api_path if api_path.startswith("/") else "/" + api_path


def segments(api_path: str) -> tuple[Segment, ...]:
    """The segments of a path. TriggerRefused for a path that breaks the real engine for every worker."""
    parts = normal(api_path)[1:].split("/")
    if len(parts) > MAX_SEGMENTS:
        raise TriggerRefused(f"An api_path cannot be served with more than {MAX_SEGMENTS} segments")
    return tuple(_segment(api_path, part, last=index == len(parts) - 1) for index, part in enumerate(parts))


def _segment(api_path: str, part: str, *, last: bool) -> Segment:
    if part.startswith(":"):
        name = part[1:]
        if not name:
            raise _refused(api_path, "the parameter `:` has no name; write `:id`")
        if "{" in name or "}" in name or name.startswith("*"):
            raise _refused(api_path, f"`{name}` is no parameter name; use letters, digits and `_`")
        return Segment(Kind.PARAMETER, name, delivered=True)
    if part.startswith("*"):
        raise _refused(api_path, f"a segment must not start with `*` (`{part}`); write `:name` instead")
    if "{" not in part and "}" not in part:
        return Segment(Kind.LITERAL, part)
    name = part[1:-1]
    if not (part.startswith("{") and part.endswith("}")) or "{" in name or "}" in name:
        raise _refused(api_path, f"stray brace in `{part}`; write `:name` for a parameter")
    if name.startswith("*"):
        if not last:
            raise _refused(api_path, f"`{part}` must be the last segment")
        if name == "*":
            raise _refused(api_path, f"the parameter `{part}` has no name")
        return Segment(Kind.REST, name[1:])
    if not name:
        raise _refused(api_path, "the parameter `{}` has no name; write `:id`")
    return Segment(Kind.PARAMETER, name)


def _refused(api_path: str, why: str) -> TriggerRefused:
    return TriggerRefused(f"api_path '{api_path}' cannot be served: {why}")
