"""Whatever the document and the ops: the bytes say the same JSON as a plain model."""

from __future__ import annotations

import json
from typing import Any

from conformance.recorded import same
from hypothesis import given
from hypothesis import strategies as st
from support import op_model
from support.json_values import documents, ops, spelled, values

from iii_skill.readable import check_value
from iii_skill.state import requests
from iii_skill.state.equality import equal
from iii_skill.state.op_limits import nesting
from iii_skill.state.ops import apply

seeds = st.integers(0, 2**32)


@given(documents | st.just(op_model.MISSING), ops, seeds)
def test_ops_on_bytes_do_what_the_model_does_on_json(
    document: Any, listed: list[dict[str, Any]], seed: int
) -> None:
    payload = json.dumps({"scope": "s", "key": "k", "ops": listed}).encode()
    current = None if document is op_model.MISSING else spelled(document, seed)
    applied = apply(requests.UPDATE.read(payload).ops, current)
    expected, failed = op_model.run(document, listed)
    assert same(json.loads(applied.new), expected)
    assert [error.op_index for error in applied.errors] == failed
    check_value(applied.new)


@given(documents, seeds)
def test_a_value_in_any_spelling_is_taken_as_it_is(document: Any, seed: int) -> None:
    value = spelled(document, seed)
    request = requests.SET.read(b'{"scope":"s","key":"k","value":%b}' % value)
    check_value(bytes(request.value))
    assert same(json.loads(bytes(request.value)), document)


@given(values, seeds, seeds)
def test_equality_does_not_depend_on_the_spelling(value: Any, first: int, second: int) -> None:
    assert equal(spelled(value, first), spelled(value, second))


@given(values, values)
def test_equality_is_that_of_json_where_minus_zero_is_zero(left: Any, right: Any) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return value + 0.0 if isinstance(value, float) else value

    assert equal(json.dumps(left).encode(), json.dumps(right).encode()) == same(plain(left), plain(right))


@given(st.lists(st.sampled_from(["[]", "{}", '{"a":[1]}', "1"]), max_size=5), st.integers(0, 20))
def test_nesting_counts_levels(inner: list[str], around: int) -> None:
    text = "[" * around + "[" + ",".join(inner) + "]" + "]" * around
    deepest = 2 if '{"a":[1]}' in inner else int(bool({"[]", "{}"} & set(inner)))
    assert nesting(text.encode()) == around + 1 + deepest
