"""The ops once more, in the plainest way: on decoded JSON, to compare with what works on bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

MISSING = object()
_FORBIDDEN = ("__proto__", "constructor", "prototype")


def run(document: Any, ops: list[dict[str, Any]]) -> tuple[Any, list[int]]:
    """The document after the ops (MISSING: the key does not exist) and the indexes of those that failed."""
    missing = document is MISSING
    document = {} if missing else copy.deepcopy(document)
    failed = []
    for index, op in enumerate(ops):
        attempt = copy.deepcopy(document)
        try:
            document = _RULES[op["type"]](op, attempt, missing)
        except ValueError:
            failed.append(index)
        else:
            missing = False
    return document, failed


def _checked(segments: list[str]) -> list[str]:
    if len(segments) > 32:
        raise ValueError
    for segment in segments:
        if not segment or len(segment.encode()) > 256 or segment in _FORBIDDEN:
            raise ValueError
    return segments


def _segments(op: dict[str, Any]) -> list[str]:
    path = op.get("path")
    if not path:
        return []
    return _checked([path] if isinstance(path, str) else path)


def _set(op: dict[str, Any], document: Any, _missing: bool) -> Any:
    if not op["path"]:
        return op.get("value")
    _checked([op["path"]])
    if not isinstance(document, dict):
        raise ValueError
    document[op["path"]] = op.get("value")
    return document


def _remove(op: dict[str, Any], document: Any, _missing: bool) -> Any:
    if not op["path"]:
        return None
    _checked([op["path"]])
    if not isinstance(document, dict):
        raise ValueError
    document.pop(op["path"], None)
    return document


def _count(sign: int) -> Callable[[dict[str, Any], Any, bool], Any]:
    def count(op: dict[str, Any], document: Any, missing: bool) -> Any:
        if not op["path"]:
            return op["by"] * sign if missing else _sum(document, op["by"], sign)
        _checked([op["path"]])
        if not isinstance(document, dict):
            raise ValueError
        if op["path"] in document:
            document[op["path"]] = _sum(document[op["path"]], op["by"], sign)
        else:
            document[op["path"]] = op["by"] * sign
        return document

    return count


def _sum(number: Any, by: int, sign: int) -> int | float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError
    if isinstance(number, float):
        return number + float(by) if sign > 0 else number - float(by)
    total = number + sign * by
    if -(2**63) <= number < 2**64 and not -(2**63) <= total < 2**64:
        raise ValueError
    return total


def _append(op: dict[str, Any], document: Any, missing: bool) -> Any:
    segments, value = _segments(op), op["value"]
    if not segments:
        return _joined(None if missing else document, value)
    if not isinstance(document, dict):
        raise ValueError
    parent = _reached(document, segments[:-1])
    leaf = segments[-1]
    if leaf in parent:
        parent[leaf] = _joined(parent[leaf], value)
    else:
        parent[leaf] = value if len(segments) == 1 and isinstance(value, str) else [value]
    return document


def _joined(target: Any, value: Any) -> Any:
    if isinstance(target, list):
        return [*target, value]
    if target is None:
        return value if isinstance(value, str) else [value]
    if isinstance(target, str) and isinstance(value, str):
        return target + value
    raise ValueError


def _merge(op: dict[str, Any], document: Any, _missing: bool) -> Any:
    segments, value = _segments(op), op["value"]
    if not isinstance(value, dict) or any(name in value for name in _FORBIDDEN) or _depth(value) > 16:
        raise ValueError
    if not isinstance(document, dict):
        if not segments:
            return document
        document = {}
    _reached(document, segments).update(value)
    return document


def _reached(document: dict[str, Any], segments: list[str]) -> dict[str, Any]:
    for segment in segments:
        if not isinstance(document.get(segment), dict):
            document[segment] = {}
        document = document[segment]
    return document


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


_RULES: dict[str, Callable[[dict[str, Any], Any, bool], Any]] = {
    "set": _set,
    "remove": _remove,
    "increment": _count(1),
    "decrement": _count(-1),
    "append": _append,
    "merge": _merge,
}
