"""What one SDK could not read back is refused at the door; everything else passes."""

from __future__ import annotations

import asyncio

import pytest

from iii_skill.errors import ValueRefused
from iii_skill.json_slices import SLICE
from iii_skill.readable import MAX_NESTING, SHALLOW, check_value, fits, inspect

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


@pytest.mark.parametrize("encoded", GOOD + BAD, ids=lambda value: repr(value[:20]))
async def test_a_long_text_is_judged_by_the_same_rule(encoded: bytes) -> None:
    long = b"[" + b'"filler",' * 20_000
    inside = MAX_NESTING + 1
    found = await inspect(long + encoded + b"]", levels=inside)
    assert (found.fault is None) == (encoded in GOOD)
    assert found.fault is not None or found.levels in (SHALLOW, inside)


async def test_others_go_on_while_a_long_text_is_inspected() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    texts = [b"[" + b"[]," * 200_000 + b"0]" for _ in range(3)]
    found = await asyncio.gather(*map(inspect, texts))
    counting.cancel()
    assert all(one.fault is None for one in found)
    assert turns >= 3 * len(texts[0]) // SLICE
