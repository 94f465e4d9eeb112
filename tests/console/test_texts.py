"""Values as texts: nothing of a value changes by being opened and saved, and mistakes have a place."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import documents, spelled

from iii_skill.console import texts
from iii_skill.console.texts import Invalid, checked, merge, shown, stored
from iii_skill.json_slices import SLICE

EXACT = [
    "9007199254740993",
    "1.0",
    "1E2",
    "-0",
    "123456789012345678901234567890",
    '{"a":1.50,"b":[1e-7,{}],"c":[]}',
    '"\\u00e9\\ud83d\\ude00 \\/ \u2028"',
    "null",
    '{"a":1,"a":2}',
]


@pytest.mark.parametrize("text", EXACT)
def test_what_is_opened_and_saved_is_the_same_to_the_byte(text: str) -> None:
    look = shown(text.encode())
    assert stored(look.text, laid_out=look.laid_out) == text.encode()


@given(documents, st.integers(0, 1000))
def test_so_is_every_value_however_it_is_spelled(value: object, seed: int) -> None:
    text = spelled(value, seed)
    look = shown(text)
    again = stored(look.text, laid_out=look.laid_out)
    # Blanks between what it consists of are all that may go.
    assert again == (msgspec.json.format(text, indent=-1) if look.laid_out else text.strip(b" \t\r\n"))
    assert look.laid_out is (b"\n" not in text)


def test_a_layout_of_others_in_lines_is_kept() -> None:
    text = '{ "a": 1,\n\n "b": 2 }'
    look = shown(text.encode())
    assert (look.text, look.laid_out) == (text, False)
    assert stored(text, laid_out=False) == text.encode()


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ('{"a": 1,\n "b": 01}', 2, 7, "leading zero"),
        ('{"a": 1,}', 1, 9, "trailing comma"),
        ("", 1, 1, "no value"),
        ("  \n", 2, 1, "no value"),
        ("[1,\n2", 2, 2, "end of data"),
        ("NaN", 1, 1, "JSON value"),
        ('"\\ud800"', 1, 3, "surrogate"),
        ("\n\n 1e400", 3, 2, "infinity"),
        ('"é" x', 1, 6, "after document"),
        ("[" * 126 + "]" * 126, 1, 1, "125 levels"),
    ],
)
def test_a_mistake_has_a_line_and_a_column(text: str, line: int, column: int, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(text)
    fault = caught.value
    assert words in fault.message
    assert (fault.line, abs(fault.column - column) <= 1) == (line, True)


@pytest.mark.parametrize("bad", ["01", "nul", '"a', "[1,]", "1e400", '"\\ud800"'])
def test_mistakes_in_long_texts_are_found_too(bad: str) -> None:
    text = "[\n" + '"é",\n' * (SLICE // 4) + bad + "]"
    with pytest.raises(Invalid) as caught:
        checked(text)
    assert caught.value.line in (1, SLICE // 4 + 2)


def test_a_place_counts_as_browsers_do() -> None:
    with pytest.raises(Invalid) as caught:
        checked('["\U0001f600", x]')
    assert caught.value.offset == 7


def test_a_text_that_nests_and_fans_out_is_not_laid_out() -> None:
    deep = "[" * 100 + ",".join(["1"] * 300_000) + "]" * 100
    assert not shown(deep.encode()).laid_out


def test_changes_of_different_members_are_merged_and_marked() -> None:
    both = merge(b'{"a":1,"b":1.0}', b'{"a":2,"b":1.0}', b'{"a":1,"b":9007199254740993}')
    assert both.merged == '{\n  "a": 2,\n  "b": 9007199254740993\n}'
    assert (both.overlap, both.theirs_lines, both.mine_lines) == (None, [1], [2])
    clash = merge(b'{"a":1}', b'{"a":2}', b'{"a":3}')
    assert (clash.merged, clash.overlap) == (None, "/a")
    assert merge(None, b"1", b"2").merged is None


def kinds(then: bytes | None, now: bytes | None, *, whole: bool = False) -> list[str]:
    found = texts.difference(then, now, whole=whole)
    assert found.compared
    return [f"{line.kind}{line.gap or line.text.strip()}" for line in found.lines]


def test_a_difference_leaves_out_what_is_far_from_it() -> None:
    then = json.dumps(list(range(20))).encode()
    assert kinds(then, then.replace(b"10", b"99")) == [
        "gap8",
        *("=7,", "=8,", "=9,", "-10,", "+99,", "=11,", "=12,", "=13,"),
        "gap7",
    ]
    assert kinds(then, then) == ["gap22"]
    assert len(kinds(then, then.replace(b"10", b"99"), whole=True)) == 23
    assert kinds(b'{"a":1}', b'{ "a":1 }') == ["gap3"]


def test_nothing_is_different_from_everything() -> None:
    assert kinds(None, b"[1]") == ["+[", "+1", "+]"]
    assert kinds(b"9007199254740993", None) == ["-9007199254740993"]
    assert kinds(None, None) == []


def test_long_texts_are_not_compared_and_long_lines_are_cut() -> None:
    many = json.dumps(list(range(5000))).encode()
    found = texts.difference(many, b"1", whole=False)
    assert (found.compared, len(found.lines)) == (False, 2000)
    found = texts.difference(b'"' + b"x" * (texts.LARGEST + 1) + b'"', None, whole=True)
    assert (found.compared, len(found.lines), len(found.lines[0].text)) == (False, 1, 2001)
