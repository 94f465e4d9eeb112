"""Events and calls as a control port gives them: values as they are, byte for byte."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from iii_skill.calls import Failure
from iii_skill.testing.engine.recorder import Event, RecordedCall


class EventRow(msgspec.Struct, omit_defaults=True):
    """A change of a key. `old_value` or `new_value` is left out where there is none."""

    number: int
    at: float
    scope: str
    key: str
    type: str
    old_value: Raw | UnsetType = UNSET
    new_value: Raw | UnsetType = UNSET


class ErrorRow(msgspec.Struct):
    """What a function answered in place of a result."""

    code: str
    message: str


class CallRow(msgspec.Struct, omit_defaults=True):
    """A call of a function. Neither `result` nor `error`: not answered, or with nothing (`answered`)."""

    number: int
    at: float
    function_id: str
    caller: str
    payload: Raw
    answered: bool
    namespace: str | None = None
    seconds: float | None = None
    result: Raw | UnsetType = UNSET
    error: ErrorRow | None = None
    fault: str | None = None
    given_up: bool = False


def event_row(event: Event) -> EventRow:
    """The event as a row."""
    return EventRow(
        event.number, event.at, event.scope, event.key, event.type, raw(event.old), raw(event.new)
    )


def call_row(call: RecordedCall) -> CallRow:
    """The call as a row."""
    outcome = call.outcome
    error = ErrorRow(outcome.code, outcome.message) if isinstance(outcome, Failure) else None
    return CallRow(
        call.number,
        call.at,
        call.function_id,
        call.caller,
        Raw(call.data),
        call.answered,
        call.namespace,
        call.seconds,
        UNSET if outcome is None or isinstance(outcome, Failure) else raw(outcome.value),
        error,
        call.fault,
        call.given_up,
    )


def raw(encoded: bytes | None) -> Raw | UnsetType:
    """Encoded JSON as it is; nothing where there is none."""
    return UNSET if encoded is None else Raw(encoded)
