"""Input errors carry the engine's own texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iii_skill.errors import InputError, ValueRefused
from iii_skill.state import requests
from iii_skill.state.op_input import AppendOp, MergeOp, SetOp

READERS: dict[str, Callable[[bytes], Any]] = {
    "state::set": requests.SET.read,
    "state::get": requests.GET.read,
    "state::delete": requests.DELETE.read,
    "state::update": requests.UPDATE.read,
    "state::list": requests.LIST.read,
    "state::list_groups": requests.LIST_GROUPS.read,
    "state::list_keys": requests.LIST_KEYS.read,
    "state::compare-and-set": requests.COMPARE_AND_SET.read,
    "state::list_entries": requests.LIST_ENTRIES.read,
}

ONE_OF = "expected one of `set`, `merge`, `increment`, `decrement`, `append`, `remove`"
UNTAGGED = "data did not match any variant of untagged enum MergePath"


def op(text: str) -> str:
    return '{"scope":"s","key":"k","ops":[%s]}' % text


ERRORS = [
    ("state::get", "null", "invalid type: null, expected struct StateGetInput"),
    ("state::set", '"x"', 'invalid type: string "x", expected struct StateSetInput'),
    ("state::delete", "true", "invalid type: boolean `true`, expected struct StateDeleteInput"),
    ("state::list", "-7", "invalid type: integer `-7`, expected struct StateGetGroupInput"),
    (
        "state::list_groups",
        "1e-7",
        "invalid type: floating point `1e-7`, expected struct StateListGroupsInput",
    ),
    ("state::update", "1e400", None),
    ("state::get", '{"scope":5,"key":6}', "invalid type: integer `6`, expected a string"),
    ("state::get", '{"scope":1e20,"key":"k"}', "invalid type: floating point `1e+20`, expected a string"),
    ("state::get", '{"scope":-0,"key":"k"}', "invalid type: floating point `-0.0`, expected a string"),
    ("state::get", '{"scope":[],"key":"k"}', "invalid type: sequence, expected a string"),
    ("state::get", '{"scope":{},"key":"k"}', "invalid type: map, expected a string"),
    ("state::get", '{"SCOPE":"s"}', "missing field `scope`"),
    ("state::get", '{"scope":"s"}', "missing field `key`"),
    ("state::set", '{"scope":"s","key":"k"}', "missing field `value`"),
    ("state::set", '{"scope":"s","key":"k","value":null,"data":null}', "duplicate field `value`"),
    ("state::set", '{"scope":1,"data":1,"value":1}', "invalid type: integer `1`, expected a string"),
    ("state::set", "[]", "invalid length 0, expected struct StateSetInput with 3 elements"),
    ("state::set", '["s",5]', "invalid type: integer `5`, expected a string"),
    ("state::set", '["s","k",1,2]', "invalid length 4, expected fewer elements in array"),
    ("state::list", "[]", "invalid length 0, expected struct StateGetGroupInput with 1 element"),
    ("state::list_groups", "[1]", "invalid length 1, expected fewer elements in array"),
    ("state::update", '{"scope":"s","key":"k"}', "missing field `ops`"),
    ("state::update", '{"scope":1,"key":"k","ops":{}}', "invalid type: map, expected a sequence"),
    ("state::update", op("5"), "invalid type: integer `5`, expected internally tagged enum UpdateOp"),
    ("state::update", op("{}"), "missing field `type`"),
    ("state::update", op("[]"), "missing field `type`"),
    ("state::update", op('{"type":5}'), "invalid type: integer `5`, expected variant identifier"),
    ("state::update", op('{"type":"Set"}'), f"unknown variant `Set`, {ONE_OF}"),
    ("state::update", op('{"type":"set","value":1}'), "missing field `path`"),
    ("state::update", op('{"type":"set","path":["a"]}'), "invalid type: sequence, expected a string"),
    ("state::update", op('{"type":"merge","path":5,"value":{}}'), UNTAGGED),
    ("state::update", op('{"type":"append","path":["a",1],"value":1}'), UNTAGGED),
    ("state::update", op('{"type":"merge"}'), "missing field `value`"),
    ("state::update", op('{"type":"increment"}'), "missing field `path`"),
    ("state::update", op('{"type":"increment","path":"n"}'), "missing field `by`"),
    (
        "state::update",
        op('{"type":"increment","path":"n","by":1.0}'),
        "invalid type: floating point `1.0`, expected i64",
    ),
    ("state::update", op('{"type":"decrement","path":5,"by":"x"}'), 'invalid type: string "x", expected i64'),
    (
        "state::update",
        op('{"type":"increment","path":"n","by":9223372036854775808}'),
        "invalid value: integer `9223372036854775808`, expected i64",
    ),
    (
        "state::update",
        op('{"type":"increment","path":"n","by":-9223372036854775809}'),
        "invalid type: floating point `-9.223372036854776e+18`, expected i64",
    ),
    ("state::update", op('{"type":"set","path":"a","value":1},{"type":"remove"}'), "missing field `path`"),
    (
        "state::update",
        op('["set","a"]'),
        "invalid length 1, expected struct variant UpdateOp::Set with 2 elements",
    ),
    (
        "state::update",
        op('["remove"]'),
        "invalid length 0, expected struct variant UpdateOp::Remove with 1 element",
    ),
    ("state::update", op('["set","a",1,2]'), "invalid length 3, expected 2 elements in sequence"),
    ("state::compare-and-set", '{"scope":"s","key":"k","data":1}', "missing field `value`"),
    (
        "state::compare-and-set",
        '["s","k",1]',
        "invalid type: sequence, expected struct StateCompareAndSetInput",
    ),
    ("state::list_keys", "{}", "missing field `scope`"),
    ("state::list_entries", '{"scope":"s","limit":-1}', "invalid value: integer `-1`, expected usize"),
    (
        "state::list_entries",
        '{"scope":"s","limit":1.5}',
        "invalid type: floating point `1.5`, expected usize",
    ),
    ("state::list_entries", '{"scope":"s","limit":"5"}', 'invalid type: string "5", expected usize'),
]


@pytest.mark.parametrize(("function_id", "payload", "detail"), ERRORS)
def test_input_errors(function_id: str, payload: str, detail: str | None) -> None:
    with pytest.raises((InputError, ValueRefused)) as caught:
        READERS[function_id](payload.encode())
    if detail is None:
        assert caught.value.code == "VALUE_REFUSED"
    else:
        assert caught.value.message == f"Failed to deserialize input for {function_id}: {detail}"
        assert caught.value.code == "deserialization_error"


def test_unknown_fields_are_ignored_and_the_last_of_a_repeated_one_wins() -> None:
    request = requests.SET.read(b'{"zz":1,"scope":"a","scope":"b","key":"k","value":1,"value":[ 2 ]}')
    assert (request.scope, request.key, bytes(request.value)) == ("b", "k", b"[ 2 ]")


@pytest.mark.parametrize("payload", [b'{"scope":"s","key":"k","data":{"a":1}}', b'["s","k",{"a":1}]'])
def test_other_forms_of_set(payload: bytes) -> None:
    request = requests.SET.read(payload)
    assert (request.scope, request.key, bytes(request.value)) == ("s", "k", b'{"a":1}')


def test_positional_ops() -> None:
    ops = b'[["set","a",1],["merge",null,{}],["append",["l"],2]]'
    first, second, third = requests.UPDATE.read(b'["s","k",%b]' % ops).ops
    assert isinstance(first, SetOp)
    assert isinstance(second, MergeOp)
    assert isinstance(third, AppendOp)
    assert (first.path, bytes(first.value)) == ("a", b"1")
    assert second.path is None
    assert third.path == ["l"]


@pytest.mark.parametrize("payload", [b"{}", b"[]", b' {"x": 1} '])
def test_list_groups_takes_any_object(payload: bytes) -> None:
    requests.LIST_GROUPS.read(payload)


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\xff"', b"NaN", b"01", b"", b"[" * 5000, b'{"a":1}x'])
@pytest.mark.parametrize("function_id", sorted(READERS))
def test_what_is_no_json_is_an_error_and_never_an_exception_of_another_kind(
    function_id: str, text: bytes
) -> None:
    payload = b'{"scope":"s","key":"k","value":%b}' % text
    for broken in (payload, text):
        try:
            READERS[function_id](broken)
        except (InputError, ValueRefused):
            continue
