"""Scope files of the real engine are read exactly, and damage of every kind is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kv_files import archived

from iii_skill.migrate.archive import Damaged, read_scope, read_text

# Length of the text (all x), size of the file and its last eight bytes, as rkyv 0.8 writes them.
RKYV = """
0 8 ffffffffffffffff
1 8 78ffffffffffffff
7 8 78787878787878ff
8 8 7878787878787878
9 20 89000000f4ffffff
12 20 8c000000f4ffffff
63 72 bf000000c0ffffff
64 72 80010000c0ffffff
65 76 81010000bcffffff
127 136 bf01000080ffffff
255 264 bf03000000ffffff
256 264 8004000000ffffff
257 268 81040000fcfeffff
16384 16392 8000010000c0ffff
70000 70008 b045040090eefeff
"""
ROWS = [(int(n), int(size), tail) for n, size, tail in (line.split() for line in RKYV.split("\n")[1:-1])]


@pytest.mark.parametrize(("length", "size", "tail"), ROWS)
def test_the_layout_is_that_of_rkyv(length: int, size: int, tail: str) -> None:
    text = b"x" * length
    data = text.ljust(size - 8, b"\0") if length > 8 else b""
    data += bytes.fromhex(tail)
    assert archived(text) == data
    assert read_text(data) == text


@given(st.text())
def test_any_text_is_read_back(text: str) -> None:
    assert read_text(archived(text.encode())) == text.encode()


def test_pairs_keep_their_order_and_bytes() -> None:
    text = '{"z":1.0,"a":[],"":{"n":9007199254740993},"é":"\\u00e9","m":-0.0}'.encode()
    assert read_scope(archived(text)) == [
        ("z", b"1.0"),
        ("a", b"[]"),
        ("", b'{"n":9007199254740993}'),
        ("é", b'"\\u00e9"'),
        ("m", b"-0.0"),
    ]


WHOLE = archived(b'{"key":"a value that is long enough"}')


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_file_that_was_cut_off_is_damaged(cut: int) -> None:
    with pytest.raises(Damaged):
        read_scope(WHOLE[:cut])


@pytest.mark.parametrize("place", range(len(WHOLE) - 8, len(WHOLE)))
def test_a_changed_trailer_is_damaged(place: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= 0x15
    with pytest.raises(Damaged):
        read_scope(bytes(data))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not a JSON object"),
        (b'{"a":1} {"b":1}', "not a JSON object"),
        (b'{"a":"\xff\xfe        "}', "not UTF-8"),
        (b'{"a":' + b"[" * 100_000, "not a JSON object"),
        (b"", "not a JSON object"),
    ],
)
def test_content_that_is_no_json_object_is_damaged(text: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        read_scope(archived(text))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_damaged(data: bytes) -> None:
    try:
        read_scope(data)
    except Damaged:
        pass
