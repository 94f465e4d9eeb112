"""The messages that a worker sends, one struct each; null counts as absent. The host's are in outgoing.py."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, TypeAlias

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
    observe: Any = None
    """How SDK 0.25 says what later ones say in the next three."""
    args_format: Any = None
    private: bool | None = None
    observable: bool | None = None


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


class Through(msgspec.Struct, frozen=True, gc=False):
    """A call goes through an observer of a function of the caller."""

    observer_id: str


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
    caller: Raw | UnsetType = UNSET
    observe_depth: int | None = None
    activation: Through | None = None


class InvocationResult(Incoming, frozen=True, gc=False, tag="invocationresult"):
    """A worker answers a call; `error` wins over `result`.

    `matched` are the observers that the worker's own hook chose, `delivered` says that it called them.
    """

    invocation_id: str
    function_id: str = ""
    result: Raw | UnsetType = UNSET
    error: ErrorBody | None = None
    matched: list[str] | None = None
    delivered: bool | None = None


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


class Capture(StrEnum):
    """A part of a call that an envelope holds."""

    INPUT = "input"
    OUTPUT = "output"
    ERROR = "error"
    CALLER = "caller"
    METADATA = "metadata"


class Outcomes(StrEnum):
    """Which calls an observer is told of: `on`."""

    SUCCESS = "success"
    ERROR = "error"
    COMPLETE = "complete"


class Deliver(StrEnum):
    """What a target gets."""

    ENVELOPE = "envelope"
    INPUT = "input"
    OUTPUT = "output"


class ObservedSource(msgspec.Struct, frozen=True, gc=False):
    """The function that is observed, and which of its calls."""

    function_id: str
    namespace: str | None = None
    args: Any = None
    filters: Any = None
    capture: list[Capture] | None = None
    on: Outcomes | None = None
    deliver: Deliver | None = None


class Target(msgspec.Struct, frozen=True, gc=False):
    """The function that is called for it."""

    function_id: str
    namespace: str | None = None


class Observe(Incoming, frozen=True, gc=False, tag="observe"):
    """A worker asks for a target to be called when a source was called."""

    id: str
    source: ObservedSource
    target: Target
    metadata: Raw = Raw(b"null")
    max_fires: int | None = None
    expires_in_ms: int | None = None
    max_in_flight: int | None = None


class UnreadableObserve(msgspec.Struct, frozen=True, gc=False):
    """An `observe` of which only the id could be read: its sender waits for an answer, in its turn."""

    id: str
    reason: str


class Unobserve(Incoming, frozen=True, gc=False, tag="unobserve"):
    """A worker ends an observer."""

    id: str


class ObserverAck(Incoming, frozen=True, gc=False, tag="observerack"):
    """The host of a source has taken an observer, or refuses it."""

    function_id: str
    id: str
    revision: int
    namespace: str | None = None
    error: ErrorBody | None = None


class InvocationsObserved(Incoming, frozen=True, gc=False, tag="invocationsobserved"):
    """Calls that a worker made to its own functions in process, and who observes them: ObservedCall each."""

    items: list[Raw]


class ObservedCall(msgspec.Struct, frozen=True, gc=False):
    """One such call. What no observer captures is left out."""

    function_id: str
    invocation_id: str
    matched: list[str]
    status: Literal["success", "error"]
    started_at_ms: int | float
    duration_ms: int | float
    namespace: str | None = None
    input: Raw | UnsetType = UNSET
    output: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    caller: Raw | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    observe_depth: int | None = None
    traceparent: str | None = None
    baggage: str | None = None
    output_is_input: bool | None = None


class LocalInvocationStats(Incoming, frozen=True, gc=False, tag="localinvocationstats"):
    """How many calls a worker made to its own functions in process: read and left alone."""


Message: TypeAlias = (
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
"""What a text decodes to."""

FromWorker: TypeAlias = Message | UnreadableObserve
"""What the connection hands on."""
