"""The engine's limits on paths and merge values, checked before an op touches anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

MAX_SEGMENTS = 32
MAX_SEGMENT_BYTES = 256
SURELY_SHORT = MAX_SEGMENT_BYTES // 4
"""Characters that no encoding makes longer than a segment may be."""
MAX_MERGE_KEYS = 1024
MAX_MERGE_DEPTH = 16
FORBIDDEN = ("__proto__", "constructor", "prototype")


class OpFailure(Exception):
    """One op is skipped; the others still apply."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_path(op: str, segments: Sequence[str]) -> None:
    """Accept a path, or raise the first OpFailure."""
    if len(segments) > MAX_SEGMENTS:
        message = f"Path depth {len(segments)} exceeds maximum of {MAX_SEGMENTS}"
        raise OpFailure(f"{op}.path.too_deep", message)
    for segment in segments:
        if not segment:
            raise OpFailure(f"{op}.path.empty_segment", "Path contains an empty segment")
        if len(segment) > SURELY_SHORT and (size := len(segment.encode())) > MAX_SEGMENT_BYTES:
            message = f"Path segment of {size} bytes exceeds maximum of {MAX_SEGMENT_BYTES}"
            raise OpFailure(f"{op}.path.segment_too_long", message)
        if segment in FORBIDDEN:
            message = f"Path segment '{segment}' is not allowed (prototype pollution)."
            raise OpFailure(f"{op}.path.proto_polluted", message)


def check_merge_value(encoded: bytes, fields: Mapping[str, msgspec.Raw]) -> None:
    """Accept the object that is merged, given encoded and by its fields."""
    if len(fields) > MAX_MERGE_KEYS:
        message = f"Merge value has {len(fields)} top-level keys, exceeds maximum of {MAX_MERGE_KEYS}"
        raise OpFailure("merge.value.too_many_keys", message)
    for name in FORBIDDEN:
        if name in fields:
            message = f'Merge value top-level key "{name}" is a prototype-pollution sink'
            raise OpFailure("merge.value.proto_polluted", message)
    if encoded.count(b"{") + encoded.count(b"[") > MAX_MERGE_DEPTH and (deep := nesting(encoded)) > 16:
        message = f"Merge value JSON nesting depth {deep} exceeds maximum of {MAX_MERGE_DEPTH}"
        raise OpFailure("merge.value.too_deep", message)


def nesting(encoded: bytes) -> int:
    """How many levels of arrays and objects there are, empty ones included."""
    level, rest = 0, [msgspec.json.decode(encoded)]
    while True:
        inner: list[object] = []
        containers = False
        for value in rest:
            if isinstance(value, dict):
                containers = True
                inner.extend(value.values())
            elif isinstance(value, list):
                containers = True
                inner.extend(value)
        if not containers:
            return level
        level, rest = level + 1, inner
