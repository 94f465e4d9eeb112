"""What the tools take and give: one source for the schemas that agents see and for what is checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Limit = Annotated[int, Meta(ge=1, le=50)]
Cursor = Annotated[str, Meta(description="From the answer before")]
Piece = Annotated[int, Meta(description="Continue with state_get from this byte")]


class ScopesInput(Struct, forbid_unknown_fields=True):
    """state_scopes."""

    prefix: str = ""
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class Scopes(Struct, omit_defaults=True):
    """Names, sorted."""

    scopes: list[str]
    cursor: str | UnsetType = UNSET


class ListInput(Struct, forbid_unknown_fields=True):
    """state_list."""

    scope: str
    prefix: str = ""
    values: bool = True
    limit: Limit = 50
    cursor: Cursor | UnsetType = UNSET


class Row(Struct, omit_defaults=True):
    """A key and its value."""

    key: str
    value: str | UnsetType = UNSET
    next_offset: Piece | UnsetType = UNSET


class Rows(Struct, omit_defaults=True):
    """A page of a scope."""

    entries: list[Row]
    total: int
    cursor: str | UnsetType = UNSET


class GetInput(Struct, forbid_unknown_fields=True):
    """state_get."""

    scope: str
    key: str
    pointer: Annotated[str, Meta(description="Part of the value, as /items/0")] | UnsetType = UNSET
    offset: Annotated[int, Meta(ge=0)] = 0


class Value(Struct, omit_defaults=True):
    """A value, or that there is none."""

    found: bool
    value: str | UnsetType = UNSET
    bytes: int | UnsetType = UNSET
    next_offset: int | UnsetType = UNSET


class WriteInput(Struct, forbid_unknown_fields=True):
    """state_write."""

    action: Literal["set", "update", "delete"]
    scope: str
    key: str
    value: Annotated[str, Meta(description="set: JSON text")] | UnsetType = UNSET
    ops: (
        Annotated[
            str,
            Meta(description='update: JSON array, as [{"type":"increment","path":"n","by":1}]; atomic'),
        ]
        | UnsetType
    ) = UNSET
    if_absent: Annotated[bool, Meta(description="set: only a new key")] = False
    if_equals: Annotated[str, Meta(description="set: only if this is the value now")] | UnsetType = UNSET


class Written(Struct, omit_defaults=True):
    """What is there now; `errors`: ops that were skipped."""

    value: str | UnsetType = UNSET
    next_offset: int | UnsetType = UNSET
    existed: bool | UnsetType = UNSET
    errors: list[str] = []


class WatchInput(Struct, forbid_unknown_fields=True):
    """state_watch."""

    scope: str
    prefix: str = ""
    cursor: Cursor | UnsetType = UNSET
    limit: Limit = 50
    seconds: Annotated[float, Meta(ge=0, le=30)] = 10


class Change(Struct, omit_defaults=True):
    """One change; `value` is the new one."""

    type: Literal["created", "updated", "deleted"]
    key: str
    value: str | UnsetType = UNSET
    next_offset: int | UnsetType = UNSET


class Changes(Struct):
    """What came, and where to go on."""

    changes: list[Change]
    cursor: str


class DoctorInput(Struct, forbid_unknown_fields=True):
    """doctor."""


class Fault(Struct):
    """One thing that is wrong."""

    id: str
    status: str
    found: str
    fix: str


class Report(Struct):
    """The likeliest cause first."""

    ok: bool
    faults: list[Fault]


def schema(shape: type[Struct]) -> dict[str, Any]:
    """The JSON schema of a shape, in one object and without what tells an agent nothing."""
    (whole,), parts = msgspec.json.schema_components([shape], ref_template="{name}")
    return _inlined(whole, parts)  # type: ignore[no-any-return]


def _inlined(node: Any, parts: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(one, parts) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(parts[node["$ref"]], parts)
    left_out = {"title", "description"} if "properties" in node else {"title"}
    return {
        name: _inlined(inner, parts)
        for name, inner in node.items()
        if name not in left_out and not (name == "required" and not inner)
    }
