"""Payload bytes to typed requests: one quick decode, and the engine's own error text when that fails.

Each request is declared once, as a struct. `Request` derives from it what the slow reader needs to say what
is wrong with a payload: the fields in declared order, their readers, and what stands in for absent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from iii_skill.errors import InputError, ValueRefused
from iii_skill.serde import reader
from iii_skill.serde.reader import Reader, Shape
from iii_skill.state.op_input import Op, read_ops

ABSENT: Final = msgspec.Raw()
"""Stands for a field of any type that was left out; compare it by identity."""

MISFIT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class SetRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::set`; `data` is the engine's other name for `value`."""

    scope: str
    key: str
    value: msgspec.Raw
    data: msgspec.Raw = ABSENT


class KeyRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::get` and `state::delete`."""

    scope: str
    key: str


class NoRequest(msgspec.Struct, frozen=True, gc=False):
    """`state::list_groups`: any object, or an empty array."""


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


R = TypeVar("R", bound=msgspec.Struct)

_READERS: Mapping[object, Reader] = {
    str: reader.string,
    msgspec.Raw: reader.anything,
    list[Op]: read_ops,
    str | None: reader.optional_string,
    int | None: reader.optional_count,
    bool | None: reader.optional_flag,
}


class Request(Generic[R]):
    """How the payload of one function becomes its struct."""

    def __init__(
        self,
        function_id: str,
        struct: type[R],
        name: str,
        *,
        aliases: Mapping[str, str] | None = None,
        positional: bool = True,
        stores: bool = False,
        quick: bool = True,
    ) -> None:
        """`name` is the engine's name for the struct; `stores`: the payload brings a value to store.

        `quick=False` where msgspec would take what the engine refuses. `aliases` maps fields that are other
        names of a field to it; a payload that has one takes the slow way.
        """
        aliases = aliases or {}
        fields = [field for field in msgspec.structs.fields(struct) if field.name not in aliases]
        self._function_id = function_id
        self._struct = struct
        self._stores = stores
        self.decode: Callable[[bytes], R] = msgspec.json.Decoder(struct).decode
        """The same for a payload without aliases where it can be read in one go; else it raises MISFIT."""
        self.read: Callable[[bytes], R] = self._read_slowly
        """The request; InputError and ValueRefused say what is wrong with the payload."""
        if quick:
            self.read = _quick_reader(self.decode, tuple(aliases), self._read_slowly)
        self._shape = Shape(
            name,
            {field.name: _READERS[field.type] for field in fields},
            {field.name: field.default for field in fields if not field.required},
            aliases,
            positional,
        )

    def _read_slowly(self, payload: bytes) -> R:
        refusal = ValueRefused if self._stores else InputError
        found = reader.read_input(self._function_id, self._shape, payload, refusal=refusal)
        return self._struct(**found)


def _quick_reader(
    decode: Callable[[bytes], R], aliases: tuple[str, ...], slowly: Callable[[bytes], R]
) -> Callable[[bytes], R]:
    """Decodes a payload in one go where that says all; every call takes this way."""

    def read(payload: bytes) -> R:
        try:
            return decode(payload)
        except MISFIT:
            return slowly(payload)

    def read_with_aliases(payload: bytes) -> R:
        try:
            request = decode(payload)
        except MISFIT:
            return slowly(payload)
        for alias in aliases:
            if getattr(request, alias) is not ABSENT:
                return slowly(payload)
        return request

    return read_with_aliases if aliases else read


SET = Request("state::set", SetRequest, "StateSetInput", aliases={"data": "value"}, stores=True)
GET = Request("state::get", KeyRequest, "StateGetInput")
DELETE = Request("state::delete", KeyRequest, "StateDeleteInput")
UPDATE = Request("state::update", UpdateRequest, "StateUpdateInput", stores=True)
LIST = Request("state::list", ScopeRequest, "StateGetGroupInput")
LIST_GROUPS = Request("state::list_groups", NoRequest, "StateListGroupsInput", quick=False)
LIST_KEYS = Request("state::list_keys", ScopeRequest, "StateListKeysInput", quick=False)
LIST_ENTRIES = Request(
    "state::list_entries", EntriesRequest, "StateListEntriesInput", positional=False, quick=False
)
COMPARE_AND_SET = Request(
    "state::compare-and-set",
    CompareAndSetRequest,
    "StateCompareAndSetInput",
    positional=False,
    stores=True,
)
