"""The messages that a worker sends, one struct each; null counts as absent. The host's are in outgoing.py."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Incoming(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """Base of the messages that a worker sends."""


class RegisterFunction(Incoming, frozen=True, gc=False, tag="registerfunction"):
    """A worker offers a function."""

    id: str
    description: str | None = None
    request_format: Any = None
    response_format: Any = None
    metadata: Any = None
    invocation: Any = None


class UnregisterFunction(Incoming, frozen=True, gc=False, tag="unregisterfunction"):
    """A worker takes its function back."""

    id: str


class RegisterTriggerType(Incoming, frozen=True, gc=False, tag="registertriggertype"):
    """A worker offers to provide a trigger type."""

    id: str
    description: str
    trigger_request_format: Any = None
    call_request_format: Any = None
    namespace: str | None = None


class UnregisterTriggerType(Incoming, frozen=True, gc=False, tag="unregistertriggertype"):
    """A worker stops to provide a trigger type."""

    id: str
    namespace: str | None = None


class RegisterTrigger(Incoming, frozen=True, gc=False, tag="registertrigger"):
    """A worker asks for a function to be called when something happens."""

    id: str
    trigger_type: str
    function_id: str
    config: Raw
    metadata: Raw = Raw(b"null")
    namespace: str | None = None
    trigger_namespace: str | None = None


class UnregisterTrigger(Incoming, frozen=True, gc=False, tag="unregistertrigger"):
    """A worker ends a trigger."""

    id: str
    trigger_type: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An error on the wire."""

    code: str
    message: str
    stacktrace: str | None = None


class TriggerRegistrationResult(
    Incoming, frozen=True, gc=False, tag="triggerregistrationresult", omit_defaults=True
):
    """A provider's verdict about a trigger; the host sends it to a worker only with an error."""

    id: str
    trigger_type: str
    function_id: str
    error: ErrorBody | None = None


class Action(msgspec.Struct, frozen=True, gc=False):
    """How a call is to be carried out: `void`, `enqueue`; absent for an ordinary call."""

    type: str
    queue: str | None = None


class InvokeFunction(Incoming, frozen=True, gc=False, tag="invokefunction"):
    """A worker calls a function."""

    function_id: str
    data: Raw | UnsetType = UNSET
    invocation_id: str | None = None
    action: Action | None = None
    metadata: Raw | UnsetType = UNSET
    namespace: str | None = None
    traceparent: str | None = None
    baggage: str | None = None


class InvocationResult(Incoming, frozen=True, gc=False, tag="invocationresult"):
    """A worker answers a call; `error` wins over `result`."""

    invocation_id: str
    function_id: str = ""
    result: Raw | UnsetType = UNSET
    error: ErrorBody | None = None


class RegisterService(Incoming, frozen=True, gc=False, tag="registerservice"):
    """Old SDKs name their service; nothing hangs on it."""

    id: str
    name: str | None = None


class Reattach(Incoming, frozen=True, gc=False, tag="reattach"):
    """A reconnected worker names the connection that it had before."""

    previous_worker_id: str
    reattach_token: str | None = None


class Ping(Incoming, frozen=True, gc=False, tag="ping"):
    """Alive?"""


class Pong(Incoming, frozen=True, gc=False, tag="pong"):
    """Alive."""


class Observe(Incoming, frozen=True, gc=False, tag="observe"):
    """A worker asks to observe a function: answered with UNSUPPORTED."""

    id: str


class Unobserve(Incoming, frozen=True, gc=False, tag="unobserve"):
    """A worker ends an observation."""

    id: str


class ObserverAck(Incoming, frozen=True, gc=False, tag="observerack"):
    """Observer bookkeeping of newer SDKs: read and left alone."""


class InvocationsObserved(Incoming, frozen=True, gc=False, tag="invocationsobserved"):
    """Observer bookkeeping of newer SDKs: read and left alone."""


class LocalInvocationStats(Incoming, frozen=True, gc=False, tag="localinvocationstats"):
    """Observer bookkeeping of newer SDKs: read and left alone."""


FromWorker: TypeAlias = (
    RegisterFunction
    | UnregisterFunction
    | RegisterTriggerType
    | UnregisterTriggerType
    | RegisterTrigger
    | UnregisterTrigger
    | TriggerRegistrationResult
    | InvokeFunction
    | InvocationResult
    | RegisterService
    | Reattach
    | Ping
    | Pong
    | Observe
    | Unobserve
    | ObserverAck
    | InvocationsObserved
    | LocalInvocationStats
)
