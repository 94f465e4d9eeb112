"""The six ops of `state::update` as they come in; values stay encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

import msgspec

from iii_skill.serde.reader import (
    Mismatch,
    Reader,
    Shape,
    anything,
    by_name,
    decode_array,
    decode_object,
    decode_text,
    string,
)
from iii_skill.serde.texts import I64_MAX, I64_MIN, cut, describe, integer

NULL = msgspec.Raw(b"null")
Amount: TypeAlias = Annotated[int, msgspec.Meta(ge=I64_MIN, le=I64_MAX)]
Path: TypeAlias = str | list[str] | None


class SetOp(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="set"):
    """Replace the document (path "") or one field; a `value` left out is null."""

    path: str
    value: msgspec.Raw = NULL


class MergeOp(msgspec.Struct, frozen=True, tag_field="type", tag="merge"):
    """Merge an object into the document or into the object at a path of fields."""

    value: msgspec.Raw
    path: Path = None


class IncrementOp(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="increment"):
    """Add to a number."""

    path: str
    by: Amount


class DecrementOp(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="decrement"):
    """Subtract from a number."""

    path: str
    by: Amount


class AppendOp(msgspec.Struct, frozen=True, tag_field="type", tag="append"):
    """Push onto an array or onto the end of a string."""

    value: msgspec.Raw
    path: Path = None


class RemoveOp(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="remove"):
    """Remove one field, or make the document null (path "")."""

    path: str


Op: TypeAlias = SetOp | MergeOp | IncrementOp | DecrementOp | AppendOp | RemoveOp


def read_ops(raw: bytes) -> list[Op]:
    """The list of ops; the first bad one wins."""
    if raw[:1] != b"[":
        raise Mismatch(f"invalid type: {describe(raw)}, expected a sequence")
    return [_op(bytes(one)) for one in decode_array(raw)]


def _amount(raw: bytes) -> int:
    whole = integer(raw) if raw[:1] in b"-0123456789" else None
    if whole is None:
        raise Mismatch(f"invalid type: {describe(raw)}, expected i64")
    if whole > I64_MAX:
        raise Mismatch(f"invalid value: integer `{whole}`, expected i64")
    return whole


def _path(raw: bytes) -> str | list[str] | None:
    if raw == b"null":
        return None
    if raw[:1] == b'"':
        return decode_text(raw)
    if raw[:1] == b"[":
        parts = [bytes(part) for part in decode_array(raw)]
        if all(part[:1] == b'"' for part in parts):
            return [decode_text(part) for part in parts]
    raise Mismatch("data did not match any variant of untagged enum MergePath")


@dataclass(frozen=True)
class _Variant:
    op: Callable[..., Op]
    struct: str
    fields: Mapping[str, Reader]
    defaults: Mapping[str, Any] = field(default_factory=dict)


_VARIANTS = {
    "set": _Variant(SetOp, "Set", {"path": string, "value": anything}, {"value": NULL}),
    "merge": _Variant(MergeOp, "Merge", {"path": _path, "value": anything}, {"path": None}),
    "increment": _Variant(IncrementOp, "Increment", {"path": string, "by": _amount}),
    "decrement": _Variant(DecrementOp, "Decrement", {"path": string, "by": _amount}),
    "append": _Variant(AppendOp, "Append", {"path": _path, "value": anything}, {"path": None}),
    "remove": _Variant(RemoveOp, "Remove", {"path": string}),
}


def _op(raw: bytes) -> Op:
    if raw[:1] == b"{":
        given = decode_object(raw)
        if "type" not in given:
            raise Mismatch("missing field `type`")
        variant = _variant(bytes(given["type"]))
        return variant.op(**by_name(Shape(variant.struct, variant.fields, variant.defaults), given))
    if raw[:1] == b"[":
        parts = decode_array(raw)
        if not parts:
            raise Mismatch("missing field `type`")
        return _op_by_position(_variant(bytes(parts[0])), parts[1:])
    raise Mismatch(f"invalid type: {describe(raw)}, expected internally tagged enum UpdateOp")


def _op_by_position(variant: _Variant, parts: Sequence[msgspec.Raw]) -> Op:
    size = len(variant.fields)
    noun = "element" if size == 1 else "elements"
    found = {
        name: reader(bytes(raw)) for (name, reader), raw in zip(variant.fields.items(), parts, strict=False)
    }
    if len(parts) < size:
        struct = f"struct variant UpdateOp::{variant.struct}"
        raise Mismatch(f"invalid length {len(parts)}, expected {struct} with {size} {noun}")
    if len(parts) > size:
        raise Mismatch(f"invalid length {len(parts)}, expected {size} {noun} in sequence")
    return variant.op(**found)


def _variant(raw: bytes) -> _Variant:
    if raw[:1] != b'"':
        raise Mismatch(f"invalid type: {describe(raw)}, expected variant identifier")
    name = decode_text(raw)
    variant = _VARIANTS.get(name)
    if variant is None:
        known = ", ".join(f"`{one}`" for one in _VARIANTS)
        raise Mismatch(f"unknown variant `{cut(name)}`, expected one of {known}")
    return variant
