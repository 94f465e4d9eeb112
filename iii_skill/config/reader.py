"""Read a mapping into a struct: known keys, right types, numbers in their bounds; null is as good as absent.

`read` is the one reader for every section of the configuration file and for the settings of every adapter.
msgspec does the reading; when it refuses, its words become a sentence that names the key and says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from iii_skill.errors import ConfigurationError

T = TypeVar("T", bound=msgspec.Struct)

MAX_WHOLE = 2**53
"""What every JSON reader takes for a whole number."""

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_WHOLE)]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_WHOLE)]
Signed: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Interval: TypeAlias = Annotated[int, msgspec.Meta(ge=100, le=3_600_000)]
"""Milliseconds between two saves of the engine."""

_MISMATCH = re.compile(r"Expected `(?P<wanted>[^`]*)`(?:, got `(?P<got>[^`]*)`)?")
_FIELD = re.compile(r" (?:required|unknown) field `(?P<name>.*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_LONGEST = 80


def read(
    kind: type[T],
    data: Any,
    *,
    where: str,
    joint: str = ".",
    from_text: bool = False,
    no_keys: str = "nothing can be set here",
) -> T:
    """The mapping as a `kind`; None is an empty one. ConfigurationError names `where` and the key.

    `joint` stands between the two. `from_text` is for settings of the command line, where every value is a
    string: then `"5"` is a number where a number is wanted. Values of a file are never coerced.
    """
    data = {} if data is None else data
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{where}: expected a mapping, not {shown(data)}.")
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in data:
        if key not in known:
            raise ConfigurationError(f"{where}: {_unknown(key, known, no_keys)}")
    given = _without_nulls(data)
    try:
        return msgspec.convert(given, kind, strict=not from_text)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise ConfigurationError(
            _sentence(
                reason,
                place.rstrip("`"),
                kind=kind,
                data=given,
                where=where,
                joint=joint,
                from_text=from_text,
            )
        ) from None


def adapter_settings(
    config_type: type[T], settings: Mapping[str, Any] | None, *, where: str, from_text: bool = False
) -> T:
    """The checked settings of an adapter, out of a file or (`from_text`) the command line."""
    return read(
        config_type, settings, where=where, from_text=from_text, no_keys="this adapter has no settings"
    )


def shown(value: Any) -> str:
    """A value of the file as an error names it, cut when it is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= _LONGEST else value[:_LONGEST] + '…'}'"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    if value is None:
        return "null"
    return f"the number {value:.30g}" if isinstance(value, float) else f"the number {str(value)[:_LONGEST]}"


def _without_nulls(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _without_nulls(value) for key, value in data.items() if value is not None}
    return [_without_nulls(item) for item in data] if isinstance(data, list) else data


def _unknown(key: Any, known: Sequence[str], no_keys: str) -> str:
    listed = f"known keys: {', '.join(known)}" if known else no_keys
    return f"unknown key '{str(key)[:_LONGEST]}'; {listed}."


def _sentence(
    reason: str,
    place: str,
    *,
    kind: type[msgspec.Struct],
    data: Any,
    where: str,
    joint: str,
    from_text: bool,
) -> str:
    """What msgspec says, as a sentence: where, what must stand there, what does."""
    steps = [name or number for name, number in _STEP.findall(place)]
    at = where + joint + place.removeprefix(".") if place else where
    wanted, value = _type_at(kind, steps), _value_at(data, steps)
    found = _FIELD.search(reason)
    if found is not None and "unknown" in reason:
        fields = getattr(wanted, "fields", ())
        return f"{at}: {_unknown(found['name'], [field.encode_name for field in fields], 'it has none')}"
    if found is not None:
        return f"{at}: has no '{found['name']}'."
    inner = [field.encode_name for field in getattr(wanted, "fields", ())]
    if from_text and inner and isinstance(value, str):
        names = " and ".join(f"{place.removeprefix('.')}.{name}=…" for name in inner)
        return f"{at}: takes no value but settings of its own: {names}"
    bounds = _bounds(wanted)
    mismatch = _MISMATCH.match(reason)
    if mismatch is not None and mismatch["got"] is not None:
        kinds = [_KINDS.get(name, name) for name in mismatch["wanted"].split(" | ") if name != "null"]
        given = _KINDS.get(mismatch["got"], mismatch["got"]) if value is _UNKNOWN else shown(value)
        return f"{at}: expected {' or '.join(kinds)}, not {given}."
    if mismatch is not None and value == "":
        return f"{at}: must not be empty."
    if bounds and value is not _UNKNOWN:
        given = shown(value) if isinstance(value, str) else str(value)[:_LONGEST]
        return f"{at}: must be {bounds}, not {given}."
    return f"{at}: {reason[:1].lower()}{reason[1:]}."


_UNKNOWN: Any = object()


def _value_at(data: Any, steps: Sequence[str]) -> Any:
    """What stands there; _UNKNOWN inside a mapping with free keys, of which msgspec does not name the key."""
    for step in steps:
        if isinstance(data, Mapping) and step in data:
            data = data[step]
        elif isinstance(data, list) and step.isdigit() and int(step) < len(data):
            data = data[int(step)]
        else:
            return _UNKNOWN
    return data


def _type_at(kind: type[msgspec.Struct], steps: Sequence[str]) -> Any:
    """What the struct declares there, as `msgspec.inspect` describes it, or None."""
    import msgspec.inspect as inspect  # only for a message

    found: Any = _plain(inspect.type_info(kind))
    for step in steps:
        if hasattr(found, "fields"):
            found = next((field.type for field in found.fields if field.encode_name == step), None)
        else:
            found = getattr(found, "item_type", None) or getattr(found, "value_type", None)
        found = _plain(found)
    return found


def _plain(found: Any) -> Any:
    """The type without its null and its comments."""
    found = getattr(found, "type", found) if type(found).__name__ == "Metadata" else found
    members = [one for one in getattr(found, "types", ()) if type(one).__name__ != "NoneType"]
    return _plain(members[0]) if len(members) == 1 else found


def _bounds(wanted: Any) -> str:
    """What a value may be: one of the words, or from the least to the most."""
    values = getattr(wanted, "values", None)
    if values is not None:
        return " or ".join(str(value) for value in values)
    low, high = getattr(wanted, "ge", None), getattr(wanted, "le", None)
    if low is not None and high is not None and high != MAX_WHOLE:
        return f"from {low} to {high}"
    if low is not None:
        return f"at least {low}"
    return f"at most {high}" if high is not None else ""
