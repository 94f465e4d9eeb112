"""Arithmetic of increment and decrement."""

from __future__ import annotations

import pytest

from iii_skill.state.numbers import minus, plus


@pytest.mark.parametrize(
    ("encoded", "amount", "total"),
    [
        (b"1", 2, b"3"),
        (b"-1", -2, b"-3"),
        (b"0", -(2**63), b"-9223372036854775808"),
        (b"9223372036854775807", 1, b"9223372036854775808"),
        (b"18446744073709551615", 1, None),
        (b"-1", -(2**63), None),
        (b"18446744073709551616", 1, b"18446744073709551617"),
        (b"1.0", 1, b"2.0"),
        (b"1e2", 1, b"101.0"),
        (b"0.1", 1, b"1.1"),
        (b"1e308", 2**62, b"1e308"),
        (b"-0", 0, b"0.0"),
        (b"-0.0", 0, b"0.0"),
    ],
)
def test_plus(encoded: bytes, amount: int, total: bytes | None) -> None:
    assert plus(encoded, amount) == total


@pytest.mark.parametrize(
    ("encoded", "amount", "rest"),
    [
        (b"1", 2, b"-1"),
        (b"0", -(2**63), b"9223372036854775808"),
        (b"-9223372036854775808", 1, None),
        (b"-0.0", 0, b"-0.0"),
        (b"2.5", 1, b"1.5"),
    ],
)
def test_minus(encoded: bytes, amount: int, rest: bytes | None) -> None:
    assert minus(encoded, amount) == rest
