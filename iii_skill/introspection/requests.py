"""The payloads of the `engine::*` functions; unknown fields are ignored, null counts as absent."""

from __future__ import annotations

from typing import Any

import msgspec


class EngineRequest(msgspec.Struct):
    """Base of the requests: unknown fields are ignored."""


class IdentifyRequest(EngineRequest):
    """What a worker says about itself."""

    runtime: str | None = None
    version: str | None = None
    name: str | None = None
    description: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    features: Any = None


class ListRequest(EngineRequest):
    """The filters of the listings."""

    search: str | None = None
    prefix: str | None = None
    worker: str | None = None
    workers: list[str] | None = None
    runtime: str | None = None
    status: str | None = None
    trigger_type: str | None = None
    function_id: str | None = None
    include_internal: bool | None = None


class FunctionInfoRequest(EngineRequest):
    """One function or up to 32."""

    function_id: str | None = None
    function_ids: list[str] | None = None
    namespace: str | None = None


class NamedRequest(EngineRequest):
    """A worker by name."""

    name: str
    namespace: str | None = None


class IdRequest(EngineRequest):
    """A trigger or trigger type by id."""

    id: str
    namespace: str | None = None


class ObserversRequest(EngineRequest):
    """Which observers: by source, target, owner's name and state."""

    function_id: str | None = None
    target: str | None = None
    worker: str | None = None
    state: str | None = None


class TriggerRequest(EngineRequest):
    """A durable trigger."""

    trigger_type: str
    function_id: str
    config: Any = None
    metadata: Any = None
    trigger_namespace: str | None = None
    namespace: str | None = None


class LogRequest(EngineRequest):
    """One line of a worker's log."""

    message: str = ""
    data: Any = None
    trace_id: str | None = None
    span_id: str | None = None
    service_name: str | None = None
