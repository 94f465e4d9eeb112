"""How large a value may be, and in how many parts it may still be read."""

from __future__ import annotations

import pytest

from iii_skill.errors import ValueRefused, ValueTooLarge
from iii_skill.state.value_size import (
    LARGEST,
    MOST_COMPARED,
    MOST_PARTS,
    check_comparable,
    check_parts,
    check_size,
)


@pytest.mark.parametrize(
    ("value", "size"),
    [(b'"abc"', 5), (b"[ 1 , 2 ]", 5), (b'"\\u0061"', 3), (b"1e2", 5), (b'{"a": "\\/"}', 9)],
)
def test_what_counts_are_the_bytes_of_compact_json(value: bytes, size: int) -> None:
    check_size(value, size)
    with pytest.raises(ValueTooLarge, match=f"value of {size} bytes"):
        check_size(value, size - 1)


def test_long_values_are_measured_compactly_too() -> None:
    value = b"[" + b"1 , " * 100_000 + b"1]"
    compact = 2 * 100_001 + 1
    check_size(value, compact)
    with pytest.raises(ValueTooLarge, match=f"value of {compact} bytes"):
        check_size(value, compact - 1)


def test_there_is_a_bound_where_none_is_set() -> None:
    with pytest.raises(ValueTooLarge):
        check_size(b'"' + b"x" * LARGEST + b'"', None)


def test_what_is_too_large_may_shrink() -> None:
    check_size(b'"xxxx"', 3, old=b'"xxxxx"')
    with pytest.raises(ValueTooLarge):
        check_size(b'"xxxxxx"', 3, old=b'"xxxxx"')


def test_values_in_too_many_parts_are_neither_taken_apart_nor_compared() -> None:
    check_parts(b"[" + b"[]," * 400_000 + b"0]", "updated")
    with pytest.raises(ValueRefused):
        check_parts(b"[" + b"[]," * MOST_PARTS + b"0]", "updated")
    check_comparable(b'"' + b"x" * 2_000_000 + b'"', b'"' + b"y" * 2_000_000 + b'"')
    with pytest.raises(ValueRefused):
        check_comparable(b"[" + b"1," * MOST_COMPARED + b"1]", b"[1 ]")
