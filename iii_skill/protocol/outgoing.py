"""The messages that the host sends to a worker, one struct per message; what is absent is left out."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from iii_skill.protocol.messages import Capture, ErrorBody, Outcomes, TriggerRegistrationResult

FEATURES = ("observe.v1", "observe.v2", "local-dispatch.v1")
"""What the host says it serves. Without `observe.capture`, which would replace `on`, SDKs keep `on`."""


class Outgoing(msgspec.Struct, frozen=True, gc=False, tag_field="type", omit_defaults=True):
    """Base of the messages that the host sends; what is absent is left out."""


class WorkerRegistered(Outgoing, frozen=True, gc=False, tag="workerregistered"):
    """The first message: the id of the connection and the token to take it over after a reconnect."""

    worker_id: str
    reattach_token: str
    features: Any = ()


class Invoke(Outgoing, frozen=True, gc=False, tag="invokefunction"):
    """The host calls a function of the worker."""

    invocation_id: str
    function_id: str
    data: Raw
    traceparent: str | None = None
    baggage: str | None = None
    metadata: Raw | None = None
    caller: Raw | None = None
    observe_depth: int = 0
    activation: Raw | None = None


class InvocationReply(Outgoing, frozen=True, gc=False, tag="invocationresult"):
    """The host answers a call of the worker; without `result` and `error` there was nothing."""

    invocation_id: str
    function_id: str
    result: Raw | UnsetType = UNSET
    error: ErrorBody | None = None
    traceparent: str | None = None
    baggage: str | None = None


class DeliverTrigger(Outgoing, frozen=True, gc=False, tag="registertrigger"):
    """The host hands a trigger to the worker that provides its type."""

    id: str
    trigger_type: str
    function_id: str
    config: Raw
    metadata: Raw | None = None
    namespace: str | None = None
    trigger_namespace: str | None = None


class WithdrawTrigger(Outgoing, frozen=True, gc=False, tag="unregistertrigger"):
    """The host takes a trigger back from its provider."""

    id: str
    trigger_type: str


class RegistrationRejected(Outgoing, frozen=True, gc=False, tag="registrationrejected"):
    """A name is held by somebody else."""

    code: str
    namespace: str
    owner_worker_id: str
    worker_name: str | None = None
    function_id: str | None = None


class HostError(Outgoing, frozen=True, gc=False, tag="error"):
    """The host refuses the connection."""

    error: ErrorBody


class Pinged(Outgoing, frozen=True, gc=False, tag="pong"):
    """The answer to a ping."""


class LegacyTrigger(msgspec.Struct, frozen=True, gc=False):
    """A trigger of an old SDK, where an observer was made of one."""

    trigger_type: str
    config: Any


class ObserverView(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An observer as the host of its source sees it: nothing of its owner, nothing of its delivery."""

    id: str
    args: Any
    filters: Any
    target: str
    capture: tuple[Capture, ...]
    on: Outcomes
    legacy: LegacyTrigger | None = None


class FunctionRegistered(Outgoing, frozen=True, gc=False, tag="functionregistered"):
    """A function is registered: whether its worker may call it in process, and who observes it."""

    id: str
    namespace: str
    revision: int
    local_dispatch: bool
    observers: list[ObserverView]


class ObserverAdded(Outgoing, frozen=True, gc=False, tag="observeradded"):
    """A function of the worker has one more observer."""

    function_id: str
    namespace: str
    revision: int
    observer: ObserverView


class ObserverRemoved(Outgoing, frozen=True, gc=False, tag="observerremoved"):
    """An observer of a function of the worker has ended."""

    function_id: str
    namespace: str
    revision: int
    id: str


class ObserveResult(Outgoing, frozen=True, gc=False, tag="observeresult"):
    """The answer to an `observe`, in the order in which they came."""

    id: str
    state: str
    error: ErrorBody | None = None
    warnings: list[str] | None = None


class ObserverStateChanged(Outgoing, frozen=True, gc=False, tag="observerstatechanged"):
    """An observer of the worker is in another state now."""

    id: str
    state: str
    fires: int
    reason: ErrorBody | None = None


ToWorker: TypeAlias = (
    WorkerRegistered
    | Invoke
    | InvocationReply
    | DeliverTrigger
    | WithdrawTrigger
    | TriggerRegistrationResult
    | RegistrationRejected
    | HostError
    | Pinged
    | FunctionRegistered
    | ObserverAdded
    | ObserverRemoved
    | ObserveResult
    | ObserverStateChanged
)
