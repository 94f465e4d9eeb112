"""JSON read in slices is accepted and refused exactly as if it were read in one go."""

from __future__ import annotations

import gc
import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.json_values import documents

from iii_skill.json_slices import READER_LEVELS, SLICE, TooDeep, Unreadable, check, checking

NOISE = [
    b",",
    b'"',
    b"\\",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b"\xff",
    b"\xc3",
    b"\\ud83d",
    b"\\ude00",
    b"1e999",
    b"\x00",
]


def verdict(text: bytes, levels: int) -> str:
    """What the reader says about the whole text."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return "unreadable"
    outer = READER_LEVELS - levels
    try:
        orjson.loads(b"[" * outer + text + b"]" * outer)
    except orjson.JSONDecodeError:
        return "too deep"
    return "fine"


def sliced(text: bytes, levels: int, size: int) -> str:
    try:
        check(text, levels, slice_bytes=size)
    except TooDeep:
        return "too deep"
    except Unreadable:
        return "unreadable"
    return "fine"


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    value = draw(st.lists(documents, min_size=1, max_size=6))
    text = json.dumps(
        value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    ).encode()
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        place = draw(st.integers(0, len(text)))
        removed = draw(st.sampled_from([0, 0, 1, 5]))
        text = text[:place] + draw(st.sampled_from([b"", *NOISE])) + text[place + removed :]
    return text


@settings(max_examples=600, deadline=None)
@given(texts(), st.sampled_from([3, 8, 125]), st.sampled_from([80, 100, 300]))
def test_slices_say_what_the_whole_says(text: bytes, levels: int, size: int) -> None:
    whole, found = verdict(text, levels), sliced(text, levels, size)
    # A text that is both may be called too deep before its other fault is reached.
    assert found == whole or (whole, found) == ("unreadable", "too deep")


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * 60_000 + b"0]",
        b"[" + (b"[" * 100 + b"]" * 100 + b",") * 1_000 + b"0]",
        b"{" + b'"":0,' * 40_000 + b'"":0}',
        b'{"' + b"k" * 300_000 + b'":["' + b"v" * 300_000 + b'"]}',
        b'["' + b"\\\\" * 150_000 + b'"]',
        b'["' + b'\\"' * 150_000 + b'"]',
        b'["' + b"\\ud83d\\ude00" * 30_000 + b'"]',
        b'["' + "\U0001f600".encode() * 90_000 + b'"]',
        b"[" + b" " * 400_000 + b"]",
        b'["' + b",]}" * 120_000 + b'"]',
    ],
    ids=["flat", "deep", "members", "long", "backslashes", "quotes", "pairs", "astral", "blank", "marks"],
)
def test_long_texts_of_every_kind_are_accepted(text: bytes) -> None:
    assert len(text) > SLICE
    check(text, 125)


@pytest.mark.parametrize(
    "end",
    [b'"\\ud800"]', b"1e999]", b'"\xff"]', b"01]", b"0}", b"0]]", b"0],1", b'"'],
    ids=["surrogate", "infinite", "utf8", "number", "bracket", "closed twice", "two values", "unfinished"],
)
def test_a_fault_behind_many_slices_is_found(end: bytes) -> None:
    with pytest.raises(Unreadable):
        check(b"[" + b"[1,2]," * 60_000 + end, 125)


def test_a_level_too_many_behind_many_slices_is_found() -> None:
    text = b"[" + b"[1,2]," * 60_000 + b"[" * 124 + b"]" * 124 + b"]"
    check(text, 125)
    with pytest.raises(TooDeep):
        check(text, 124)


def test_brackets_without_end_are_too_deep() -> None:
    with pytest.raises(TooDeep):
        check(b"[" * 5_000_000, 125)


def test_the_reader_has_the_limit_that_the_slices_count_with() -> None:
    orjson.loads(b"[" * READER_LEVELS + b"]" * READER_LEVELS)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b"[" * (READER_LEVELS + 1) + b"]" * (READER_LEVELS + 1))


def test_no_slice_is_kept_and_the_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    steps = sum(1 for _ in checking(b"[" + b"[]," * 200_000 + b"0]", 125))
    assert steps >= 4
    assert gc.isenabled()
