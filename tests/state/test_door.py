"""What one SDK could not read back is refused at the door; everything else passes."""

from __future__ import annotations

import pytest

from iii_skill.errors import ValueRefused
from iii_skill.readable import MAX_NESTING, check_value, fits

GOOD = [
    b"null",
    b"-0",
    b"1e308",
    b"5e-324",
    b"1e-400",
    b"9" * 300,
    b'"\\ud83d\\ude00"',
    '"e\u0301\U0001f600\u2028"'.encode(),
    b'{"a":1,"a":2}',
    b'{"__proto__":[]}',
    b'"' + b"[{" * 200 + b'"',
    b"[" + b"[]," * 500 + b"[]]",
    b"[" * MAX_NESTING + b"]" * MAX_NESTING,
    b'{"n":' * MAX_NESTING + b'"]]}}"' + b"}" * MAX_NESTING,
]

BAD = [
    b"NaN",
    b"-Infinity",
    b"1e309",
    b"-1e400",
    b"9" * 400,
    b'"\\ud800"',
    b'{"\\udc00":1}',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\x01"',
    b"[1,]",
    b"01",
    b"[" * (MAX_NESTING + 1) + b"]" * (MAX_NESTING + 1),
    b'{"n":' * (MAX_NESTING + 1) + b"1" + b"}" * (MAX_NESTING + 1),
    b"[" * 100_000,
]


@pytest.mark.parametrize("encoded", GOOD, ids=lambda value: repr(value[:20]))
def test_readable_values_pass(encoded: bytes) -> None:
    check_value(encoded)


@pytest.mark.parametrize("encoded", BAD, ids=lambda value: repr(value[:20]))
def test_unreadable_values_are_refused(encoded: bytes) -> None:
    with pytest.raises(ValueRefused) as caught:
        check_value(encoded)
    assert caught.value.code == "VALUE_REFUSED"


@pytest.mark.parametrize("levels", [1, 16, 123, 125])
def test_nesting_is_counted_exactly(levels: int) -> None:
    assert fits(b"[" * levels + b"]" * levels, levels)
    assert not fits(b"[" * levels + b'{"a":1}' + b"]" * levels, levels)
