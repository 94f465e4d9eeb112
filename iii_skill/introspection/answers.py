"""What the `engine::*` functions answer: what there is, and who a worker is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from iii_skill.calls import Call
from iii_skill.engine.engine import Engine
from iii_skill.engine.functions import Function
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.workers import Worker
from iii_skill.errors import CallerError, InputError, TriggerRefused
from iii_skill.introspection import rows
from iii_skill.introspection.requests import (
    FunctionInfoRequest,
    IdentifyRequest,
    IdRequest,
    ListRequest,
    NamedRequest,
    TriggerRequest,
)
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.triggers import Trigger

logger = logging.getLogger("iii_skill.workers")


MOST_LASTING = 10_000
"""Triggers that outlive the worker that asked for them."""


class NotThere(CallerError):
    """What was asked for does not exist."""

    code = "NOT_FOUND"


def bad_input(function_id: str, detail: str) -> str:
    return f"Failed to deserialize input for {function_id}: {detail}"


class EngineAnswers:
    """The answers; each takes the call and its decoded request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def identify(self, call: Call, request: IdentifyRequest) -> Any:
        worker = self._engine.workers.get(call.caller_id or "")
        if worker is None:
            return {"success": True}
        namesake = self._namesake(worker, request.name)
        features = request.features if isinstance(request.features, list) else ()
        worker.identify(
            name=request.name,
            runtime=request.runtime,
            version=request.version,
            features=[feature for feature in features if isinstance(feature, str)],
        )
        worker.description, worker.os, worker.pid = request.description, request.os, request.pid
        worker.isolation = request.isolation
        if namesake is not None:
            # The real engine closes the second one, and old SDKs never recover from that: keep both.
            logger.warning(
                "two live workers are named '%s' in namespace '%s'; the iii engine refuses the second",
                request.name,
                worker.namespace,
            )
        self._engine.changed("worker_metadata_updated", worker)
        return {"success": True}

    def list_functions(self, call: Call, request: ListRequest) -> Any:
        chosen = [f for f in self._engine.functions if request.include_internal or not f.internal]
        beside = self._beside(call)
        listed = [rows.function_row(function) | beside(function) for function in chosen]
        return {
            "functions": sorted(_filtered(listed, request, "function_id"), key=lambda r: r["function_id"])
        }

    def function_info(self, call: Call, request: FunctionInfoRequest) -> Any:
        if request.function_ids is not None:
            if len(request.function_ids) > 32:
                raise InputError(
                    bad_input("engine::functions::info", "at most 32 function_ids can be asked for at once")
                )
            asked = request.function_ids
            return {"functions": [self._info_or_error(call, name, request.namespace) for name in asked]}
        if request.function_id is None:
            raise InputError(bad_input("engine::functions::info", "missing field `function_id`"))
        function = self._function(request.function_id, request.namespace)
        if function is None:
            raise NotThere(f"Function '{request.function_id}' is not registered.")
        return rows.function_info(function, self._engine) | self._beside(call)(function)

    def list_workers(self, _call: Call, request: ListRequest) -> Any:
        listed = [
            *rows.builtin_workers(self._engine),
            *map(self._worker_row, self._engine.workers.values()),
        ]
        listed = [
            row
            for row in listed
            if (request.runtime is None or row["runtime"] == request.runtime)
            and (request.status is None or row["status"] == request.status)
            and (request.search is None or request.search.lower() in (row["name"] or "").lower())
        ]
        return {"workers": listed}

    def worker_info(self, _call: Call, request: NamedRequest) -> Any:
        found = rows.worker_info(self._engine, request.name, request.namespace)
        if found is None:
            raise NotThere(f"Worker '{request.name}' is not connected.")
        return found

    def list_types(self, _call: Call, request: ListRequest) -> Any:
        listed = rows.type_rows(self._engine.triggers)
        return {"triggers": sorted(_filtered(listed, request, "id"), key=lambda r: r["id"])}

    def type_info(self, _call: Call, request: IdRequest) -> Any:
        found = rows.type_info(self._engine.triggers, request.id, request.namespace)
        if found is None:
            namespace = request.namespace or DEFAULT_NAMESPACE
            raise NotThere(f"Trigger type '{request.id}' is not registered in namespace '{namespace}'.")
        return found

    def list_triggers(self, _call: Call, request: ListRequest) -> Any:
        listed = [
            rows.trigger_row(trigger, self._engine)
            for trigger in self._engine.triggers.placed()
            if request.trigger_type in (None, trigger.trigger_type)
            and request.function_id in (None, trigger.function_id)
        ]
        return {"registered_triggers": _filtered(listed, request, "function_id")}

    def trigger_info(self, _call: Call, request: IdRequest) -> Any:
        trigger = self._engine.triggers.triggers.get(request.id)
        if trigger is None:
            raise NotThere(f"Trigger '{request.id}' is not registered.")
        return rows.trigger_info(trigger, self._engine)

    def register_trigger(self, call: Call, request: TriggerRequest) -> Any:
        trigger = Trigger(
            fresh_id(),
            request.trigger_type,
            request.function_id,
            msgspec.json.encode(request.config),
            None if request.metadata is None else msgspec.json.encode(request.metadata),
            request.namespace,
            request.trigger_namespace,
        )
        if self._engine.triggers.lasting >= MOST_LASTING:
            raise TriggerRefused(
                f"There are {MOST_LASTING} lasting triggers already; end some (engine::unregister_trigger)."
            )
        try:
            self._engine.add_trigger(trigger)
        except TriggerRefused:
            self._engine.remove_trigger(trigger.id)
            raise
        return {"id": trigger.id}

    def unregister_trigger(self, _call: Call, request: IdRequest) -> Any:
        return {"removed": self._engine.remove_trigger(request.id)}

    def _namesake(self, worker: Worker, name: str | None) -> Worker | None:
        if name is None:
            return None
        for other in self._engine.workers.values():
            if other is not worker and other.name == name and other.namespace == worker.namespace:
                return other
        return None

    def _function(self, function_id: str, namespace: str | None) -> Function | None:
        return self._engine.functions.lookup(function_id, namespace)

    def _beside(self, call: Call) -> Callable[[Function], dict[str, Any]]:
        """What rows of functions say beside: nothing new to workers that know of no observers."""
        worker = self._engine.workers.get(call.caller_id or "")
        if worker is not None and not worker.observes:
            return lambda _function: {}
        return lambda function: rows.observed_row(function, self._engine)

    def _info_or_error(self, call: Call, function_id: str, namespace: str | None) -> Any:
        function = self._function(function_id, namespace)
        if function is None:
            return {"function_id": function_id, "error": "not_found"}
        return rows.function_info(function, self._engine) | self._beside(call)(function)

    def _worker_row(self, worker: Worker) -> dict[str, Any]:
        return rows.worker_row(worker, len(self._engine.functions.owned_by(worker)))


def _filtered(rows: Iterable[dict[str, Any]], request: ListRequest, key: str) -> list[dict[str, Any]]:
    wanted = set(request.workers or ()) | ({request.worker} if request.worker is not None else set())
    return [
        row
        for row in rows
        if (request.prefix is None or row[key].startswith(request.prefix))
        and (request.search is None or request.search.lower() in row[key].lower())
        and (not wanted or row["worker_name"] in wanted)
    ]
