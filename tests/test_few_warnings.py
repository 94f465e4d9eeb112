"""Warnings that others cause are few and short."""

from __future__ import annotations

import logging

import pytest

from iii_skill.few_warnings import FewWarnings, one_line


def test_each_subject_is_warned_of_once_and_a_line_says_when_that_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warnings = FewWarnings(logging.getLogger("t"), "odd names", limit=3)
    for _ in range(2):
        for number in range(10):
            warnings.warn(f"s{number}", "%s is odd", f"n{number}")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "n0 is odd", "n1 is odd", "n2 is odd",
        "there are more warnings about odd names; they are not logged any more",
    ]  # fmt: skip


def test_long_texts_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    warnings = FewWarnings(logging.getLogger("t"), "names")
    warnings.warn("s" * 1_000_000, "%s is long", "v" * 1_000_000)
    warnings.warn("s" * 2_000_000, "%s is long", "v")
    assert len(caplog.text) < 500
    assert len(caplog.records) == 1


def test_a_text_of_somebody_else_is_one_line() -> None:
    assert one_line("a\nERROR root: forged\r\x1b[31m\u2028b") == "a ERROR root: forged  [31m b"
