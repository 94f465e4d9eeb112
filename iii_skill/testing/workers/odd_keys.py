"""Keys that break what was written for ordinary ones."""

from __future__ import annotations

from typing import Final

_LONG = "k" * 255

ODD_KEYS: Final[tuple[str, ...]] = (
    "",
    "0",
    "null",
    "undefined",
    "default",
    "unknown",
    "__proto__",
    "constructor",
    "toString",
    "a.b",
    "a/b",
    "a:b",
    "a b",
    " a b ",
    "A.B",
    "../a",
    "a%2Fb",
    'a"b',
    "a\\b",
    "a\nb",
    "\u00e9",
    "e\u0301",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    f"{_LONG}1",
    f"{_LONG}2",
)
"""No two of them are the same text: names of JavaScript, separators, blanks, forms of one letter, length."""
