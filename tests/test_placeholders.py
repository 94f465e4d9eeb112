"""Placeholders are found in linear time, and where a plain pattern finds them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_skill.placeholders import fill

NAMES = {
    "of a file": (re.compile(r"[^}:]+"), re.compile(r"\$\{([^}:]+)(?::([^}]*))?\}")),
    "of an entry": (
        re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
        re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}"),
    ),
}


@pytest.mark.parametrize("kind", NAMES)
@given(
    text=st.lists(st.sampled_from(["${", "}", ":", "$", "{", "A", "b1", "\n", " ", "${A}", "${A:b}"])).map(
        "".join
    )
)
def test_they_are_those_of_the_plain_pattern(kind: str, text: str) -> None:
    name, whole = NAMES[kind]
    found: list[tuple[str, str | None, int]] = []

    def value(variable: str, default: str | None, place: int) -> str:
        found.append((variable, default, place))
        return f"<{variable}|{default}>"

    assert fill(text, name, value) == whole.sub(lambda match: f"<{match[1]}|{match[2]}>", text)
    assert found == [(match[1], match[2], match.start()) for match in whole.finditer(text)]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("piece", ["${", "${A:", "${A", "${A:b", "$", "${:"])
def test_a_million_beginnings_take_no_time(kind: str, piece: str) -> None:
    text = piece * 1_000_000
    assert fill(text, NAMES[kind][0], lambda name, default, place: "") == text
