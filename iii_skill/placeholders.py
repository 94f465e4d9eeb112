"""`${VAR}` and `${VAR:default}` in a text, and the plain scalars of YAML that a filled-in text may become."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

MAX_FILLED = 4 * 1024 * 1024
"""Characters that the placeholders of one document may stand for: a short text can hold many long ones."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What the name of a variable looks like."""

SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
"""The core scalars of YAML 1.2: name, pattern, and what they can begin with."""


@functools.cache
def _scalar(name: str) -> re.Pattern[str]:
    """Compiled when it is first needed: that takes two milliseconds of a start."""
    return re.compile(next(pattern for own, pattern, _ in SCALARS if own == name))


_LONGEST_NUMBER = 400


def fill(text: str, name: re.Pattern[str], value: Callable[[str, str | None, int], str]) -> str:
    """The text with each placeholder replaced by `value(name, default, place)`.

    A name is what matches `name` whole; the default runs to the first `}`. The time is linear in the text.
    """
    parts: list[str] = []
    done = 0
    start, end = text.find("${"), -1
    while start >= 0:
        if end < start:
            end = text.find("}", start)
            if end < 0:
                break
        # Where the name ends is looked for before the next `${`, so that no character is looked at twice.
        found = name.match(text, start + 2, end)
        stop = start + 2 if found is None else found.end()
        if found is not None and (stop == end or text[stop] == ":"):
            default = None if stop == end else text[stop + 1 : end]
            parts += (text[done:start], value(found.group(), default, start))
            stop = done = end + 1
        start = text.find("${", stop)
    parts.append(text[done:])
    return "".join(parts)


def fill_value(value: Any, name: re.Pattern[str], filled: Callable[[str, str | None, int], str]) -> Any:
    """The value with the texts in it filled in; a text that is one whole placeholder takes its type."""
    if isinstance(value, dict):
        return {key: fill_value(inner, name, filled) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill_value(inner, name, filled) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    text = fill(value, name, filled)
    whole = value.startswith("${") and value.find("}") == len(value) - 1 and text != value
    return scalar(text) if whole else text


def scalar(text: str) -> object:
    """The null, bool, integer or number that the text spells, or the text itself."""
    plain = text.strip()
    if len(plain) > _LONGEST_NUMBER:
        return text
    if _scalar("null").fullmatch(plain):
        return None
    if _scalar("bool").fullmatch(plain):
        return plain in ("true", "True", "TRUE")
    if _scalar("int").fullmatch(plain):
        return int(plain)
    if _scalar("float").fullmatch(plain) and not plain.lstrip("+-").startswith((".i", ".I", ".n", ".N")):
        number = float(plain)
        return number if math.isfinite(number) else text
    return text
