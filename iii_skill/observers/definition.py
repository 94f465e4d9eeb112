"""Definition: what an owner asks for, read from an `observe` with its defaults filled in."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from iii_skill.engine.functions import Function
from iii_skill.filters.errors import InvalidFilter
from iii_skill.filters.filter import Filter
from iii_skill.filters.schema_paths import check_paths
from iii_skill.observers.errors import refused
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.protocol.messages import Capture, Deliver, Observe, Outcomes
from iii_skill.readable import WHY_UNREADABLE, listable

DEFAULT_CAPTURE: Final = (Capture.INPUT, Capture.OUTPUT, Capture.CALLER)
DEFAULT_IN_FLIGHT: Final = 64
LONGEST_LIFE_MS: Final = 366 * 24 * 3600 * 1000
"""Timers of the loop cannot be set for longer than a few years."""


class Name(msgspec.Struct, frozen=True, gc=False):
    """A function in a namespace."""

    function_id: str
    namespace: str

    def __str__(self) -> str:
        inside = "" if self.namespace == DEFAULT_NAMESPACE else f" in namespace {self.namespace}"
        return f"{self.function_id}{inside}"


class Definition(msgspec.Struct, frozen=True, eq=False):
    """What stays the same as long as the observer lives."""

    source: Name
    target: Name
    args: Any
    filter: Filter
    capture: tuple[Capture, ...]
    on: Outcomes
    deliver: Deliver
    metadata: bytes | None
    max_fires: int | None
    expires_in_ms: int | None
    max_in_flight: int
    identity: bytes
    """Equal for equal definitions, however they were written."""


def read_definition(message: Observe) -> Definition:
    """The definition of a message; raises ObserverRefused and InvalidFilter."""
    source = message.source
    for name, value in (
        ("max_fires", message.max_fires),
        ("expires_in_ms", message.expires_in_ms),
        ("max_in_flight", message.max_in_flight),
    ):
        if value is not None and value < 1:
            raise refused("INVALID_ARGS", f"`{name}` is a number of at least 1, found {value}.")
    if message.expires_in_ms is not None and message.expires_in_ms > LONGEST_LIFE_MS:
        raise refused("INVALID_ARGS", "`expires_in_ms` is more than a year; leave it out for no end.")
    args = {} if source.args is None else source.args
    if not listable(msgspec.json.encode(args)):
        raise refused("INVALID_ARGS", f"The args cannot be taken: {WHY_UNREADABLE}")
    try:
        filter_ = Filter({} if source.filters is None else source.filters)
    except RecursionError:
        raise InvalidFilter("filters nested too deep") from None
    metadata: bytes | None = bytes(message.metadata)
    if metadata == b"null":
        metadata = None
    elif not listable(bytes(message.metadata)):
        raise refused("INVALID_ARGS", f"The metadata cannot be taken: {WHY_UNREADABLE}")
    made = Definition(
        _name(source.function_id, source.namespace),
        _name(message.target.function_id, message.target.namespace),
        args,
        filter_,
        DEFAULT_CAPTURE if source.capture is None else tuple(dict.fromkeys(source.capture)),
        source.on or Outcomes.SUCCESS,
        source.deliver or Deliver.ENVELOPE,
        metadata,
        message.max_fires,
        message.expires_in_ms,
        message.max_in_flight or DEFAULT_IN_FLIGHT,
        b"",
    )
    return msgspec.structs.replace(made, identity=_identity(made))


def _name(function_id: str, namespace: str | None) -> Name:
    return Name(function_id, namespace or DEFAULT_NAMESPACE)


def _identity(made: Definition) -> bytes:
    fields = msgspec.structs.asdict(made)
    fields["filter"] = made.filter.normal
    fields["capture"] = sorted(made.capture)
    fields["metadata"] = None if made.metadata is None else msgspec.json.decode(made.metadata)
    return msgspec.json.encode(fields, order="sorted")


def check_fit(definition: Definition, function: Function, *, args_fit: bool) -> list[str]:
    """What could not be verified of an observer of that function; raises CallerError when it cannot be.

    `args_fit`: somebody else has checked, or will check, the args against the function's schema of them.
    """
    name = definition.source
    if not function.observable:
        raise refused("NOT_OBSERVABLE", f"{name} is not to be observed; its worker says so.")
    if function.args_format is None and definition.args != {}:
        raise refused("INVALID_ARGS", f"{name} takes no args of its observers; leave them out.")
    if function.args_format is not None and not args_fit:
        raise refused("INVALID_ARGS", f"The args do not fit the args_format of {name}.")
    return check_paths(definition.filter.tree, function.request_schema, function.response_schema)
