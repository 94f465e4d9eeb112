"""How unexpected values are named."""

from __future__ import annotations

import json

import pytest

from iii_skill.serde.texts import MAX_QUOTED, describe


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        ("0", "integer `0`"),
        ("18446744073709551615", "integer `18446744073709551615`"),
        ("18446744073709551616", "floating point `1.8446744073709552e+19`"),
        ("-0", "floating point `-0.0`"),
        ("1.0", "floating point `1.0`"),
        ("1e15", "floating point `1000000000000000.0`"),
        ("1e16", "floating point `1e+16`"),
        ("1e-7", "floating point `1e-7`"),
        ("5e-324", "floating point `5e-324`"),
        ("false", "boolean `false`"),
        ("{}", "map"),
    ],
)
def test_values(encoded: str, text: str) -> None:
    assert describe(encoded.encode()) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", '""'),
        ("a'b", '"a\'b"'),
        ('"\\', '"\\"\\\\"'),
        ("\n\r\t\0", '"\\n\\r\\t\\0"'),
        ("\x07\x7f\x1b", '"\\u{7}\\u{7f}\\u{1b}"'),
        ("e\u0301", '"e\\u{301}"'),
        ("\u200b\ufeff\u2028\u00a0", '"\\u{200b}\\u{feff}\\u{2028}\\u{a0}"'),
        ("é😀 中", '"é😀 中"'),
    ],
)
def test_texts_are_escaped_like_rust_debug_strings(text: str, shown: str) -> None:
    assert describe(json.dumps(text).encode()) == f"string {shown}"


def test_a_long_text_is_cut_before_it_is_looked_at() -> None:
    encoded = b'"' + b"x" * 20_000_000 + b'"'
    assert describe(encoded) == 'string "' + "x" * MAX_QUOTED + '…"'
