"""The worker's side of the protocol: what an attached state worker sends and takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw

from iii_skill.protocol.connection import IDENTIFY
from iii_skill.protocol.messages import Incoming, ObserverAck, TriggerRegistrationResult
from iii_skill.protocol.outgoing import (
    FunctionRegistered,
    HostError,
    InvocationReply,
    ObserverAdded,
    ObserverRemoved,
    Outgoing,
    Pinged,
    RegistrationRejected,
    WithdrawTrigger,
    WorkerRegistered,
)


class Invoked(Incoming, frozen=True, gc=False, tag="invokefunction"):
    """The host calls one of our functions."""

    invocation_id: str
    function_id: str
    data: Raw


class TriggerDelivered(Incoming, frozen=True, gc=False, tag="registertrigger"):
    """The host hands us a trigger of a type that we provide."""

    id: str
    trigger_type: str
    function_id: str
    config: Raw
    metadata: Raw = Raw(b"null")
    namespace: str | None = None


FromHost: TypeAlias = (
    WorkerRegistered
    | Invoked
    | InvocationReply
    | TriggerDelivered
    | WithdrawTrigger
    | TriggerRegistrationResult
    | RegistrationRejected
    | HostError
    | Pinged
    | FunctionRegistered
    | ObserverAdded
    | ObserverRemoved
)


class _Kind(msgspec.Struct):
    type: str


_decoder: msgspec.json.Decoder[FromHost] = msgspec.json.Decoder(FromHost)
_kind = msgspec.json.Decoder(_Kind)

_USED = {
    "workerregistered",
    "invokefunction",
    "invocationresult",
    "registertrigger",
    "unregistertrigger",
    "triggerregistrationresult",
    "registrationrejected",
    "error",
    "functionregistered",
    "observeradded",
    "observerremoved",
}

OBSERVERS = "observe.v2"
"""The feature of an engine, and of a worker, that knows of observers."""


class WorkerCall(Outgoing, frozen=True, gc=False, tag="invokefunction"):
    """A call that the worker makes; without an id it is void."""

    function_id: str
    data: Raw
    invocation_id: str | None = None
    namespace: str | None = None
    metadata: Raw | None = None
    action: dict[str, str] | None = None


def decode_from_host(text: bytes) -> FromHost | None:
    """The message of one text; None for a kind that a state worker has no use for; raises DecodeError."""
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError:
        if _kind.decode(text).type in _USED:
            raise
        return None


def identify(name: str, version: str, features: Sequence[str]) -> bytes:
    """The text with which the worker says who it is, and what it understands."""
    data: dict[str, Any] = {"runtime": "iii-skill", "version": version, "name": name}
    if features:
        data["features"] = list(features)
    call = WorkerCall(IDENTIFY, Raw(msgspec.json.encode(data)), action={"type": "void"})
    return msgspec.json.encode(call)


def reattach(worker_id: str, token: str) -> bytes:
    """The text that takes the old connection over."""
    return _text("reattach", previous_worker_id=worker_id, reattach_token=token)


def register_function(
    function_id: str,
    description: str,
    request: dict[str, Any] | None,
    response: dict[str, Any] | None,
    *,
    private: bool = False,
) -> bytes:
    """The text that offers a function; a private one is called by nobody and may be observed."""
    fields: dict[str, Any] = {"id": function_id, "description": description}
    if request is not None:
        fields["request_format"] = request
    if response is not None:
        fields["response_format"] = response
    if private:
        fields["private"] = True
    return _text("registerfunction", **fields)


def acknowledge(function_id: str, namespace: str, observer_id: str, revision: int) -> bytes:
    """The text that takes an observer of one of our functions."""
    return msgspec.json.encode(ObserverAck(function_id, observer_id, revision, namespace))


def report(function_id: str, observer_id: str, invocation_id: str, event: bytes, now_ms: int) -> bytes:
    """The text that tells of an event of one of our functions, and of the observer that wants it."""
    item = {
        "function_id": function_id,
        "invocation_id": invocation_id,
        "matched": [observer_id],
        "status": "success",
        "input": Raw(event),
        "output_is_input": True,
        "started_at_ms": now_ms,
        "duration_ms": 0,
        "observe_depth": 0,
    }
    return _text("invocationsobserved", items=[item])


def register_trigger_type(
    type_id: str, description: str, config: dict[str, Any], event: dict[str, Any]
) -> bytes:
    """The text that offers a trigger type."""
    return _text(
        "registertriggertype",
        id=type_id,
        description=description,
        trigger_request_format=config,
        call_request_format=event,
    )


def _text(kind: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})
