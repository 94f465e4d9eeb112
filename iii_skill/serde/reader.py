"""Read a payload field by field, slowly, to find what the engine would say is wrong with it.

The rules of the engine's deserializer: an object's fields are visited in byte order of their names, the
first wrong type wins, then the first missing field in declared order. An array is taken by position. All
readers get encoded JSON that is known to be well formed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from iii_skill.errors import CallerError, InputError
from iii_skill.readable import unreadable_because
from iii_skill.serde.texts import U64_MAX, describe, integer

Reader = Callable[[bytes], Any]

decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
decode_text = msgspec.json.Decoder(str).decode


class Mismatch(Exception):
    """The payload does not fit; the argument is the engine's text without its lead."""


@dataclass(frozen=True)
class Shape:
    """A payload: its name in messages, its fields in declared order, and what stands in for absent ones."""

    struct: str
    fields: Mapping[str, Reader]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    positional: bool = True


def read(shape: Shape, payload: bytes) -> dict[str, Any]:
    """Field name to value; Mismatch says what is wrong."""
    raw = payload.strip()
    if raw[:1] == b"{":
        return by_name(shape, decode_object(raw))
    if raw[:1] == b"[" and shape.positional:
        return _by_position(shape, decode_array(raw))
    raise Mismatch(f"invalid type: {describe(raw)}, expected struct {shape.struct}")


def read_input(
    function_id: str, shape: Shape, payload: bytes, *, refusal: type[CallerError] = InputError
) -> dict[str, Any]:
    """As `read`, for any bytes: InputError says in the engine's words what is wrong with a function's input.

    `refusal` is raised for what is not JSON that every SDK can read.
    """
    why = unreadable_because(payload)
    if why is not None:
        raise refusal(f"The payload of {function_id} is not JSON that every SDK can read: {why}.")
    try:
        return read(shape, payload)
    except Mismatch as fault:
        raise InputError(f"Failed to deserialize input for {function_id}: {fault}") from None


def by_name(shape: Shape, given: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(given.keys() & {*shape.fields, *shape.aliases}):
        target = shape.aliases.get(name, name)
        if target in found:
            raise Mismatch(f"duplicate field `{target}`")
        found[target] = shape.fields[target](bytes(given[name]))
    for name in shape.fields:
        if name not in found:
            if name not in shape.defaults:
                raise Mismatch(f"missing field `{name}`")
            found[name] = shape.defaults[name]
    return found


def _by_position(shape: Shape, given: Sequence[msgspec.Raw]) -> dict[str, Any]:
    found = {
        name: reader(bytes(raw)) for (name, reader), raw in zip(shape.fields.items(), given, strict=False)
    }
    size = len(shape.fields)
    if len(given) < size:
        noun = "element" if size == 1 else "elements"
        raise Mismatch(f"invalid length {len(given)}, expected struct {shape.struct} with {size} {noun}")
    if len(given) > size:
        raise Mismatch(f"invalid length {len(given)}, expected fewer elements in array")
    return found


def string(raw: bytes) -> str:
    """A required string."""
    if raw[:1] != b'"':
        raise Mismatch(f"invalid type: {describe(raw)}, expected a string")
    return decode_text(raw)


def optional_string(raw: bytes) -> str | None:
    """A string, or null for none."""
    return None if raw == b"null" else string(raw)


def strings(raw: bytes) -> list[str] | None:
    """A list of strings, or null for none."""
    if raw == b"null":
        return None
    if raw[:1] != b"[":
        raise Mismatch(f"invalid type: {describe(raw)}, expected a sequence")
    return [string(bytes(one)) for one in decode_array(raw)]


def anything(raw: bytes) -> msgspec.Raw:
    """Any value, left encoded."""
    return msgspec.Raw(raw)


def optional_count(raw: bytes) -> int | None:
    """An unsigned integer, or null for none."""
    if raw == b"null":
        return None
    whole = integer(raw) if raw[:1] in b"-0123456789" else None
    if whole is None:
        raise Mismatch(f"invalid type: {describe(raw)}, expected usize")
    if whole < 0:
        raise Mismatch(f"invalid value: integer `{whole}`, expected usize")
    return whole


def optional_digits(raw: bytes) -> int | None:
    """An unsigned integer of 64 bits, as a string of its digits or as a number; null for none."""
    if raw == b"null":
        return None
    if raw[:1] == b'"':
        text = decode_text(raw)
        whole = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
    else:
        whole = integer(raw) if raw[:1] in b"-0123456789" else None
    if whole is None or not 0 <= whole <= U64_MAX:
        raise Mismatch(f"invalid value: {describe(raw)}, expected digits")
    return whole


def optional_flag(raw: bytes) -> bool | None:
    """A boolean, or null for none."""
    if raw not in (b"null", b"true", b"false"):
        raise Mismatch(f"invalid type: {describe(raw)}, expected a boolean")
    return None if raw == b"null" else raw == b"true"
