"""Three-way merge: no edit is lost, and what conflicts shows both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_skill.scaffold.merge import Merged, merge

BASE = "one\ntwo\nthree\nfour\n"
LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "e\n"]), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("yours", "template", "merged"),
    [
        (BASE, "one\n2\nthree\nfour\n", "one\n2\nthree\nfour\n"),
        ("one\n2\nthree\nfour\n", BASE, "one\n2\nthree\nfour\n"),
        ("one\n2\nthree\nfour\n", "one\n2\nthree\nfour\n", "one\n2\nthree\nfour\n"),
        ("zero\n" + BASE, BASE + "five\n", "zero\n" + BASE + "five\n"),
        ("one\nthree\nfour\n", "one\ntwo\nthree\n4\n", "one\nthree\n4\n"),
        ("", BASE, ""),
    ],
)
def test_what_one_side_changed_is_taken(yours: str, template: str, merged: str) -> None:
    result = merge(BASE, yours, template, label="python 2")
    assert (result.text, result.conflicts) == (merged, 0)


def test_what_both_changed_stands_between_markers() -> None:
    result = merge(BASE, "one\nyour two\nthree\nfour\n", "one\nnew two\nthree\nfour\n", label="python 2")
    assert result.conflicts == 1
    assert result.text == ("one\n<<<<<<< yours\nyour two\n=======\nnew two\n>>>>>>> python 2\nthree\nfour\n")


def test_a_missing_line_end_does_not_swallow_a_marker() -> None:
    result = merge("x", "y", "z", label="t")
    assert result.text == "<<<<<<< yours\ny\n=======\nz\n>>>>>>> t\n"


@given(LINES, LINES)
def test_an_unchanged_side_gives_the_other(base: str, other: str) -> None:
    assert merge(base, other, base, label="t").text == other
    assert merge(base, base, other, label="t").text == other
    assert merge(base, other, other, label="t").text == other


@given(LINES, LINES, LINES)
def test_every_new_line_of_both_sides_is_in_the_outcome(base: str, yours: str, template: str) -> None:
    merged = merge(base, yours.replace("a", "mine"), template.replace("b", "theirs"), label="t")
    assert merged.text.count("mine\n") >= (0 if merged.conflicts else yours.count("a"))
    for line in ("mine\n", "theirs\n"):
        source = yours.replace("a", "mine") if line == "mine\n" else template.replace("b", "theirs")
        assert (line in source) == (line in merged.text)


def test_a_text_that_an_editor_saved_with_crlf_is_not_one_big_conflict() -> None:
    base = "a\nb\nc\nd\ne\n"
    yours = "top\r\na\r\nb\r\nc\r\nd\r\ne\r\n"
    assert merge(base, yours, base.replace("e", "E"), label="t") == Merged(yours.replace("e\r", "E\r"), 0)
    both = merge(base, yours.replace("d", "1"), base.replace("d", "2"), label="t")
    assert both.conflicts == 1
    assert "<<<<<<< yours\r\n1\r\n=======\r\n2\r\n>>>>>>> t\r\n" in both.text
    assert both.text.count("\n") == both.text.count("\r\n")
