"""The six ops, as tables: a document and an op give a document, or leave it and report an error."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from iii_skill.state import requests
from iii_skill.state.op_input import AppendOp, IncrementOp, Op
from iii_skill.state.ops import DOC_URL, apply

MISSING = "missing"


def run(document: Any, *ops: dict[str, Any]) -> tuple[Any, list[tuple[int, str, str]]]:
    """The document after the ops and the errors as (index, code, message)."""
    payload = json.dumps({"scope": "s", "key": "k", "ops": ops}).encode()
    current = None if document == MISSING else json.dumps(document).encode()
    applied = apply(requests.UPDATE.read(payload).ops, current)
    assert all(error.doc_url == DOC_URL for error in applied.errors)
    return json.loads(applied.new), [(error.op_index, error.code, error.message) for error in applied.errors]


def at(kind: str, path: Any, **more: Any) -> dict[str, Any]:
    return {"type": kind, "path": path, **more}


WORKS = [
    # set
    ({"a": 1}, at("set", "a", value=2), {"a": 2}),
    ({"a": 1}, at("set", "b.c", value=2), {"a": 1, "b.c": 2}),
    ({"a": 1}, at("set", "", value=[1]), [1]),
    ({"a": 1}, {"type": "set", "path": ""}, None),
    ({"a": 1}, {"type": "set", "path": "a"}, {"a": None}),
    (MISSING, at("set", "a", value=1), {"a": 1}),
    ([1], at("set", "", value={}), {}),
    # increment and decrement
    ({"n": 1}, at("increment", "n", by=2), {"n": 3}),
    ({"n": 1}, at("decrement", "n", by=2), {"n": -1}),
    ({}, at("increment", "n", by=2), {"n": 2}),
    ({}, at("decrement", "n", by=2), {"n": -2}),
    (MISSING, at("increment", "", by=5), 5),
    (MISSING, at("decrement", "", by=5), -5),
    (MISSING, at("decrement", "", by=-(2**63)), 2**63),
    (MISSING, at("increment", "a", by=5), {"a": 5}),
    (7, at("increment", "", by=1), 8),
    ({"n": 1.0}, at("increment", "n", by=1), {"n": 2.0}),
    ({"n": 2**63 - 1}, at("increment", "n", by=1), {"n": 2**63}),
    ({"n": 2**64}, at("increment", "n", by=1), {"n": 2**64 + 1}),
    # append
    ({"l": [1]}, at("append", "l", value=2), {"l": [1, 2]}),
    ({"l": []}, at("append", "l", value=None), {"l": [None]}),
    ({"l": [1]}, at("append", "l", value=[2, 3]), {"l": [1, [2, 3]]}),
    ({"t": "ab"}, at("append", "t", value="cd"), {"t": "abcd"}),
    ({"t": '"\\'}, at("append", "t", value="\u0301😀"), {"t": '"\\\u0301😀'}),
    ({"t": None}, at("append", "t", value="x"), {"t": "x"}),
    ({"t": None}, at("append", "t", value=1), {"t": [1]}),
    ({}, at("append", "t", value="x"), {"t": "x"}),
    ({}, at("append", ["t"], value=1), {"t": [1]}),
    ({}, at("append", ["a", "b"], value="x"), {"a": {"b": ["x"]}}),
    ({"a": [1]}, at("append", ["a", "b"], value=1), {"a": {"b": [1]}}),
    ({"a": {"b": None}}, at("append", ["a", "b"], value="x"), {"a": {"b": "x"}}),
    (MISSING, at("append", "", value="x"), "x"),
    (MISSING, {"type": "append", "value": 1}, [1]),
    (None, at("append", None, value=1), [1]),
    ([1], at("append", [], value=2), [1, 2]),
    # merge
    ({"a": 1}, {"type": "merge", "value": {"b": 2}}, {"a": 1, "b": 2}),
    ({"a": 1}, at("merge", "", value={"a": None}), {"a": None}),
    ({"a": {"x": 1}}, at("merge", "a", value={"y": 2}), {"a": {"x": 1, "y": 2}}),
    ({"a": {"x": {"p": 1}}}, at("merge", ["a", "x"], value={"q": 2}), {"a": {"x": {"p": 1, "q": 2}}}),
    ({"a": 5}, at("merge", ["a", "b"], value={}), {"a": {"b": {}}}),
    ([1], at("merge", "", value={"a": 1}), [1]),
    ([1], at("merge", "a", value={"b": 1}), {"a": {"b": 1}}),
    (MISSING, {"type": "merge", "value": {"a": 1}}, {"a": 1}),
    ({"l": [1]}, at("merge", ["l", "0"], value={"x": 1}), {"l": {"0": {"x": 1}}}),
    # remove
    ({"a": 1, "b": 2}, at("remove", "a"), {"b": 2}),
    ({"a": 1}, at("remove", "nope"), {"a": 1}),
    ({"a": 1}, at("remove", ""), None),
    (MISSING, at("remove", "a"), {}),
]


@pytest.mark.parametrize(("document", "op", "after"), WORKS)
def test_an_op_that_works(document: Any, op: dict[str, Any], after: Any) -> None:
    got, errors = run(document, op)
    assert errors == []
    assert json.dumps(got) == json.dumps(after)


FAILS = [
    (
        [1],
        at("set", "a", value=1),
        "set.target_not_object",
        "Cannot set at path 'a': target is array, expected object.",
    ),
    (
        "x",
        at("remove", "a"),
        "remove.target_not_object",
        "Cannot remove at path 'a': target is string, expected object.",
    ),
    (
        None,
        at("increment", "a", by=1),
        "increment.target_not_object",
        "Cannot increment at path 'a': target is null, expected object.",
    ),
    (
        True,
        at("decrement", "a", by=1),
        "decrement.target_not_object",
        "Cannot decrement at path 'a': target is boolean, expected object.",
    ),
    ({}, at("increment", "", by=1), "increment.not_number", "Expected number at path 'root', got object."),
    (
        {"n": None},
        at("increment", "n", by=1),
        "increment.not_number",
        "Expected number at path 'n', got null.",
    ),
    (
        {"n": "1"},
        at("decrement", "n", by=1),
        "decrement.not_number",
        "Expected number at path 'n', got string.",
    ),
    (
        {"n": 2**64 - 1},
        at("increment", "n", by=1),
        "increment.not_number",
        "Expected number at path 'n', got number.",
    ),
    (
        {"n": -(2**63)},
        at("decrement", "n", by=1),
        "decrement.not_number",
        "Expected number at path 'n', got number.",
    ),
    (
        {"t": "a"},
        at("append", "t", value=1),
        "append.type_mismatch",
        "Expected string append value at path 't', got number.",
    ),
    (
        {"o": {}},
        at("append", "o", value=1),
        "append.type_mismatch",
        "Cannot append at path 'o': target is object, expected array, string, null, or missing field.",
    ),
    (
        {"a": {"b": 1}},
        at("append", ["a", "b"], value=1),
        "append.type_mismatch",
        "Cannot append at path 'b': target is number, expected array, string, null, or missing field.",
    ),
    (
        {},
        at("append", "", value=1),
        "append.type_mismatch",
        "Cannot append at path 'root': target is object, expected array, string, null, or missing field.",
    ),
    (
        [],
        at("append", ["p", "q"], value=1),
        "append.target_not_object",
        "Cannot append at path '[p, q]': target is array, expected object.",
    ),
    (
        1,
        at("append", "new", value=1),
        "append.target_not_object",
        "Cannot append at path '[new]': target is number, expected object.",
    ),
    ({}, at("merge", "a", value=[1]), "merge.value.not_an_object", "Merge value must be a JSON object"),
    (
        {},
        at("merge", "a", value={f"k{n}": 1 for n in range(1025)}),
        "merge.value.too_many_keys",
        "Merge value has 1025 top-level keys, exceeds maximum of 1024",
    ),
    (
        {},
        at("merge", "a", value={"constructor": 1}),
        "merge.value.proto_polluted",
        'Merge value top-level key "constructor" is a prototype-pollution sink',
    ),
    (
        {},
        at("set", "__proto__", value=1),
        "set.path.proto_polluted",
        "Path segment '__proto__' is not allowed (prototype pollution).",
    ),
    ({}, at("merge", ["a", ""], value={}), "merge.path.empty_segment", "Path contains an empty segment"),
    ({}, at("append", ["a"] * 33, value=1), "append.path.too_deep", "Path depth 33 exceeds maximum of 32"),
    (
        {},
        at("remove", "é" * 129),
        "remove.path.segment_too_long",
        "Path segment of 258 bytes exceeds maximum of 256",
    ),
]


@pytest.mark.parametrize(("document", "op", "code", "message"), FAILS)
def test_an_op_that_fails_changes_nothing(document: Any, op: dict[str, Any], code: str, message: str) -> None:
    got, errors = run(document, op)
    assert errors == [(0, code, message)]
    assert json.dumps(got) == json.dumps(document)


def test_a_failing_op_is_skipped_and_the_others_apply() -> None:
    bad = at("increment", "t", by=1)
    got, errors = run({"t": "x"}, at("set", "a", value=1), bad, at("set", "b", value=2))
    assert got == {"t": "x", "a": 1, "b": 2}
    assert [index for index, _, _ in errors] == [1]


def test_a_missing_document_is_stored_as_an_empty_object_whatever_the_ops_do() -> None:
    assert run(MISSING) == ({}, [])
    assert run(MISSING, at("merge", "", value=1))[0] == {}


def test_a_skipped_op_keeps_the_document_missing_and_a_success_ends_it() -> None:
    skipped = at("set", "__proto__", value=1)
    assert run(MISSING, skipped, at("increment", "", by=3))[0] == 3
    removed = at("remove", "absent")
    assert run(MISSING, removed, at("increment", "", by=3))[1][0][1] == "increment.not_number"


@pytest.mark.parametrize("levels", [16, 17])
def test_merge_values_nest_16_levels(levels: int) -> None:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    _, errors = run({}, {"type": "merge", "value": {"v": value}})
    expected = f"Merge value JSON nesting depth {levels} exceeds maximum of 16"
    assert [message for _, _, message in errors] == ([] if levels == 16 else [expected])


@pytest.mark.parametrize(
    "field",
    [b"-0", b"1E2", b"123456789012345678901234567890", b'"\\u00e9"', b"[ ]", b'{"x":1,"x":2}', b"1.50"],
)
def test_what_no_op_touches_keeps_its_bytes(field: bytes) -> None:
    op = b'{"scope":"s","key":"k","ops":[{"type":"append","path":["o","l"],"value":1}]}'
    current = b'{"keep":%b,"o":{"keep":%b}}' % (field, field)
    new = apply(requests.UPDATE.read(op).ops, current).new
    assert new == b'{"keep":%b,"o":{"keep":%b,"l":[1]}}' % (field, field)


OPS = [
    {"type": "append", "path": "list", "value": 1},
    {"type": "append", "path": "text", "value": "x"},
    {"type": "append", "path": ["deep", "er"], "value": {"a": [1]}},
    {"type": "append", "path": "list", "value": "two"},
    {"type": "increment", "path": "list", "by": 1},
    {"type": "append", "path": "text", "value": 5},
    {"type": "merge", "path": ["deep"], "value": {"b": 1}},
    {"type": "append", "path": "count", "value": 5},
    {"type": "increment", "path": "count", "by": 2},
    {"type": "set", "path": "list", "value": []},
    {"type": "append", "path": "list", "value": 3},
    {"type": "remove", "path": "text"},
    {"type": "append", "path": "text", "value": "again"},
    {"type": "append", "path": "", "value": 1},
]


@pytest.mark.parametrize("current", [None, b"{}", b'{"list":[ ],"text":"t","count":1}', b"[1]", b'"t"', b"5"])
@pytest.mark.parametrize("shift", range(len(OPS)))
def test_many_ops_do_what_they_do_one_by_one(current: bytes | None, shift: int) -> None:
    several = (OPS[shift:] + OPS[:shift]) * 2
    ops = msgspec.json.decode(json.dumps(several), type=list[Op])
    together = apply(ops, current)
    value, errors = current, 0
    for op in ops:
        one = apply([op], value)
        # Only what an op made exists: one that failed leaves nothing behind.
        value = one.new if not one.errors or value is not None else None
        errors += len(one.errors)
    assert json.loads(together.new) == json.loads(value if value is not None else b"{}")
    assert len(together.errors) == errors


def test_an_array_grows_in_time_that_its_ops_bound() -> None:
    count = 100_000
    for path in ("list", None):
        ops = [AppendOp(msgspec.Raw(b"%d" % number), path) for number in range(count)]
        new = json.loads(apply(ops, None).new)
        assert (new if path is None else new["list"]) == list(range(count))


def test_ops_that_fail_copy_nothing() -> None:
    current = b'{"list":[' + b"1," * 500_000 + b"1]}"
    ops = [op for _ in range(20_000) for op in (IncrementOp("list", 1), AppendOp(msgspec.Raw(b"1"), "list"))]
    applied = apply(ops, current)
    assert len(applied.errors) == 20_000
    assert len(json.loads(applied.new)["list"]) == 520_001
