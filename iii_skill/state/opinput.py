"""The six ops of `state::update` as they come in; values stay encoded."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from iii_skill.state.unexpected import I64_MAX, I64_MIN

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
