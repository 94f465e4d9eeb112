"""A text with its depths left out says what the whole text says, and gives back every byte of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.json_values import documents

from iii_skill.json_slices import checking
from iii_skill.outline import Outline

Raws = dict[str, msgspec.Raw]


def outline(text: bytes, slice_bytes: int) -> Outline:
    return Outline(text, list(checking(text, 125, slice_bytes=slice_bytes)))


def message(value: Any, other: Any) -> bytes:
    data = {"scope": "s", "key": "k", "value": value, "other": other}
    return json.dumps({"type": "x", "data": data, "end": other}, ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(documents, documents, st.sampled_from([80, 120, 300]), st.integers(1, 6))
def test_what_was_left_out_comes_back(value: Any, other: Any, size: int, level: int) -> None:
    text = message([value, [other, value]], other)
    short = outline(text, size).short(level)
    json.loads(short.text)
    assert short.restore(short.text) == text


@settings(max_examples=300, deadline=None)
@given(documents, documents, st.sampled_from([80, 120, 300]))
def test_a_value_is_found_through_two_short_texts(value: Any, other: Any, size: int) -> None:
    text = message([value, [other, value]], other)
    whole = msgspec.json.decode(text, type=Raws)
    outlined = outline(text, size)
    envelope = outlined.short(2)
    data = bytes(msgspec.json.decode(envelope.text, type=Raws)["data"])
    assert envelope.restore(data) == bytes(whole["data"])
    span = envelope.span(data)
    if span is not None:
        assert text[slice(*span)] == bytes(whole["data"])
        inner = outlined.short(3, span)
        fields = msgspec.json.decode(inner.text, type=Raws)
        restored = {name: inner.restore(bytes(field)) for name, field in fields.items()}
        expected = msgspec.json.decode(bytes(whole["data"]), type=Raws)
        assert restored == {name: bytes(field) for name, field in expected.items()}


@pytest.mark.parametrize(
    "value", ["[" + "[]," * 400_000 + "0]", "[" + ("[" * 90 + "]" * 90 + ",") * 8_000 + "0]"]
)
def test_a_short_text_is_short(value: str) -> None:
    text = b'{"data":{"value":%b}}' % value.encode()
    short = outline(text, 128 * 1024).short(2)
    assert len(text) > 1_000_000
    assert len(short.text) < 300_000
