"""Payloads that do not fit are refused with a short text, however large they are."""

from __future__ import annotations

import pytest

from iii_skill.errors import InputError
from iii_skill.serde.reader import (
    Mismatch,
    Shape,
    anything,
    optional_count,
    optional_digits,
    optional_flag,
    read_input,
    string,
    strings,
)
from iii_skill.state.op_input import read_ops

SHAPE = Shape(
    "Input",
    {"id": string, "names": strings, "count": optional_count, "flag": optional_flag, "rest": anything},
    {"names": None, "count": None, "flag": None, "rest": None},
)
OPS = Shape("Input", {"ops": read_ops})
LONG = b'"' + b"x" * 2_000_000 + b'"'


@pytest.mark.parametrize(
    "payload",
    [
        LONG,
        b'{"id":1,"names":%b}' % LONG,
        b'{"names":[1,%b]}' % LONG,
        b'{"id":"a","count":%b}' % LONG,
        b'{"id":"a","flag":%b}' % LONG,
        b'{"id":"a","count":0.%b1}' % (b"0" * 2_000_000),
        b'{"id":"a",%b:1,"flag":3}' % LONG,
    ],
)
def test_a_misfit_of_megabytes_is_told_in_a_short_text(payload: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_input("x::y", SHAPE, payload)
    assert len(caught.value.message) < 1200


@pytest.mark.parametrize(
    "op",
    [
        b'{"type":%b}' % LONG,
        b"[%b]" % LONG,
        b'{"type":"increment","path":"a","by":%b}' % LONG,
        b'{"type":"merge","value":1,"path":[%b,1]}' % LONG,
        LONG,
    ],
)
def test_an_op_of_megabytes_that_does_not_fit_is_told_in_a_short_text(op: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_input("state::update", OPS, b'{"ops":[%b]}' % op)
    assert len(caught.value.message) < 1200


@pytest.mark.parametrize(
    ("given", "number"),
    [(b"null", None), (b"0", 0), (b'"0"', 0), (b'"007"', 7), (b'"18446744073709551615"', 2**64 - 1)],
)
def test_digits_are_a_text_or_a_number(given: bytes, number: int | None) -> None:
    assert optional_digits(given) == number


@pytest.mark.parametrize(
    "given",
    [
        b'""',
        b'"1.0"',
        b'"-1"',
        b'" 1"',
        b'"1_0"',
        '"٣"'.encode(),
        b'"18446744073709551616"',
        b"-1",
        b"-0",
        b"1.0",
        b"1e3",
        b"18446744073709551616",
        b"true",
        b"[1]",
        b"{}",
        LONG,
    ],
)
def test_what_is_no_digits_is_told_in_few_bytes(given: bytes) -> None:
    with pytest.raises(Mismatch, match="expected digits") as caught:
        optional_digits(given)
    assert len(str(caught.value)) < 2000
