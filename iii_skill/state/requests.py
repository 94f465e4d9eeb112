"""Payload bytes to typed requests: one quick decode, and the engine's own error text when that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson

from iii_skill.errors import InputError, ValueRefused
from iii_skill.serde import reader
from iii_skill.serde.reader import Mismatch, Shape
from iii_skill.state.op_input import Op, read_ops

ABSENT: Final = msgspec.Raw()
"""Stands for a field of any type that was left out; compare it by identity."""

MISFIT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class SetRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::set`; `data` is the engine's other name for `value`."""

    scope: str
    key: str
    value: msgspec.Raw = ABSENT
    data: msgspec.Raw = ABSENT


class KeyRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::get` and `state::delete`."""

    scope: str
    key: str


class UpdateRequest(msgspec.Struct, frozen=True):
    """`state::update`."""

    scope: str
    key: str
    ops: list[Op]


class ScopeRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::list` and `state::list_keys`."""

    scope: str


class CompareAndSetRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::compare-and-set`; `expected` absent or null means: there is no value."""

    scope: str
    key: str
    value: msgspec.Raw
    expected: msgspec.Raw = ABSENT


class EntriesRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::list_entries`."""

    scope: str
    cursor: str | None = None
    limit: int | None = None
    max_bytes: int | None = None
    non_null_only: bool | None = None


_set = msgspec.json.Decoder(SetRequest)
_key = msgspec.json.Decoder(KeyRequest)
_update = msgspec.json.Decoder(UpdateRequest)
_scope = msgspec.json.Decoder(ScopeRequest)
_compare = msgspec.json.Decoder(CompareAndSetRequest)

_SCOPE_AND_KEY = {"scope": reader.string, "key": reader.string}
_SET = Shape("StateSetInput", {**_SCOPE_AND_KEY, "value": reader.anything}, aliases={"data": "value"})
_GET = Shape("StateGetInput", _SCOPE_AND_KEY)
_DELETE = Shape("StateDeleteInput", _SCOPE_AND_KEY)
_UPDATE = Shape("StateUpdateInput", {**_SCOPE_AND_KEY, "ops": read_ops})
_LIST = Shape("StateGetGroupInput", {"scope": reader.string})
_GROUPS = Shape("StateListGroupsInput", {})
_KEYS = Shape("StateListKeysInput", {"scope": reader.string})
_COMPARE = Shape(
    "StateCompareAndSetInput",
    {**_SCOPE_AND_KEY, "value": reader.anything, "expected": reader.anything},
    {"expected": ABSENT},
    positional=False,
)
_ENTRIES = Shape(
    "StateListEntriesInput",
    {
        "scope": reader.string,
        "cursor": reader.optional_string,
        "limit": reader.optional_count,
        "max_bytes": reader.optional_count,
        "non_null_only": reader.optional_flag,
    },
    {"cursor": None, "limit": None, "max_bytes": None, "non_null_only": None},
    positional=False,
)


def read_set(payload: bytes) -> SetRequest:
    """Scope, key and the encoded value (always in `value`)."""
    try:
        request = _set.decode(payload)
    except MISFIT:
        return SetRequest(**_read("state::set", _SET, payload))
    if request.value is ABSENT or request.data is not ABSENT:
        return SetRequest(**_read("state::set", _SET, payload))
    return request


def read_get(payload: bytes) -> KeyRequest:
    """Scope and key."""
    try:
        return _key.decode(payload)
    except MISFIT:
        return KeyRequest(**_read("state::get", _GET, payload))


def read_delete(payload: bytes) -> KeyRequest:
    """Scope and key."""
    try:
        return _key.decode(payload)
    except MISFIT:
        return KeyRequest(**_read("state::delete", _DELETE, payload))


def read_update(payload: bytes) -> UpdateRequest:
    """Scope, key and the parsed ops."""
    try:
        return _update.decode(payload)
    except MISFIT:
        return UpdateRequest(**_read("state::update", _UPDATE, payload))


def read_list(payload: bytes) -> ScopeRequest:
    """The scope."""
    try:
        return _scope.decode(payload)
    except MISFIT:
        return ScopeRequest(**_read("state::list", _LIST, payload))


def read_list_groups(payload: bytes) -> None:
    """Nothing: the payload only has to be an object (or an empty array)."""
    if payload != b"{}":
        _read("state::list_groups", _GROUPS, payload)


def read_list_keys(payload: bytes) -> ScopeRequest:
    """The scope."""
    return ScopeRequest(**_read("state::list_keys", _KEYS, payload))


def read_compare_and_set(payload: bytes) -> CompareAndSetRequest:
    """Scope, key, the new value and what must be there now."""
    try:
        return _compare.decode(payload)
    except MISFIT:
        return CompareAndSetRequest(**_read("state::compare-and-set", _COMPARE, payload))


def read_list_entries(payload: bytes) -> EntriesRequest:
    """Scope, cursor and limits; the bounds of the limits are not checked here."""
    return EntriesRequest(**_read("state::list_entries", _ENTRIES, payload))


def _read(function_id: str, shape: Shape, payload: bytes) -> Mapping[str, Any]:
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        kind = ValueRefused if shape in (_SET, _UPDATE, _COMPARE) else InputError
        raise kind(f"The payload of {function_id} is not JSON that every SDK can read: {error}.") from None
    try:
        return reader.read(shape, payload)
    except Mismatch as error:
        raise InputError(f"Failed to deserialize input for {function_id}: {error}") from None
