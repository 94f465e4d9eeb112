"""The recorded cases: what they are, their placeholders and macros, and how answers are compared.

`recorded.json.xz` maps a theme to its cases. A case has a unique name inside its theme, optional tags
(`weakness`: the engine's answer is a flaw; `quirk`: an accident of its libraries; `configuration`, `engine`),
optional functions that it registers, and steps, each with the answer that the real engine gave.
"""

from __future__ import annotations

import functools
import hashlib
import json
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST_LITERAL = 4096

Answer = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One recorded case."""

    theme: str
    name: str
    tags: frozenset[str]
    functions: Mapping[str, Mapping[str, Any]]
    steps: tuple[Mapping[str, Any], ...]

    @property
    def id(self) -> str:
        """Its unique name, as the table of differences names it."""
        return f"{self.theme}/{self.name}"


@functools.cache
def meta() -> Mapping[str, Any]:
    """Where the recording comes from."""
    return json.loads((HERE / "META.json").read_text())


@functools.cache
def cases() -> tuple[Case, ...]:
    """All recorded cases in order."""
    themes = json.loads(lzma.decompress((HERE / "recorded.json.xz").read_bytes()))
    return tuple(
        Case(
            theme,
            case["name"],
            frozenset(case.get("tags") or ()),
            case.get("functions") or {},
            tuple(case["steps"]),
        )
        for theme, listed in themes.items()
        for case in listed
    )


def canonical(value: Any) -> str:
    """Equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def same(left: Any, right: Any) -> bool:
    """Strict equality of JSON: 1, 1.0 and true are three values, 0.0 and -0.0 are two."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right) if isinstance(left, float) else bool(left == right)


def expand(value: Any, sub: Callable[[str], str]) -> Any:
    """Fill in placeholders and macros."""
    if isinstance(value, str):
        return sub(value)
    if isinstance(value, list):
        return [expand(one, sub) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((macro, argument),) = value.items()
        if macro == "$repeat":
            return sub(argument[0]) * argument[1]
        if macro in ("$nest", "$nest_list"):
            out = expand(argument[1], sub)
            for _ in range(argument[0]):
                out = {"n": out} if macro == "$nest" else [out]
            return out
        if macro == "$keys":
            return {f"k{index}": expand(argument[1], sub) for index in range(argument[0])}
        if macro == "$list":
            return [expand(argument[1], sub)] * argument[0]
        if macro == "$obj":
            return {expand(key, sub): expand(inner, sub) for key, inner in argument}
    return {sub(key): expand(inner, sub) for key, inner in value.items()}


def map_text(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every string and key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_text(one, change) for one in value]
    if isinstance(value, dict):
        return {change(key): map_text(inner, change) for key, inner in value.items()}
    return value


def shrink(value: Any) -> Any:
    """Long values stand as a digest in the recording."""
    text = canonical(value)
    if len(text) <= LONGEST_LITERAL:
        return value
    return {"$digest": hashlib.sha256(text.encode()).hexdigest(), "$bytes": len(text)}


def without_prose(value: Any) -> Any:
    """The shape of a JSON Schema."""
    if isinstance(value, list):
        return [without_prose(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_prose(inner)
        for key, inner in value.items()
        if not (key in ("title", "$schema") and isinstance(inner, str))
        and not (key == "description" and (inner is None or isinstance(inner, str)))
    }


def project(step: Mapping[str, Any], result: Any, scope: str) -> Any:
    """The part of a result that the recording keeps."""
    match step.get("project"):
        case "own_groups" if isinstance(result, dict) and "groups" in result:
            return {**result, "groups": [group for group in result["groups"] if group.startswith(scope)]}
        case "shape":
            return without_prose(result)
        case "keys":
            return sorted(result)
    return result


def differences(step: Mapping[str, Any], got: Answer) -> list[str]:
    """What differs between the recorded and the given answer of a step; the raw text is not compared."""
    want = {key: value for key, value in step["recorded"].items() if key != "result_text"}
    found = []
    for key in sorted({*want, *got}):
        if (key in want) != (key in got):
            found.append(f"{key}: {'missing' if key in want else 'unexpected'}")
        elif not same(want[key], got[key]):
            left, right = want[key], got[key]
            reordered = (
                isinstance(left, list)
                and isinstance(right, list)
                and sorted(map(canonical, left)) == sorted(map(canonical, right))
            )
            if not (reordered and step.get("unordered")):
                found.append(f"{key}: order" if reordered else key)
    return found
