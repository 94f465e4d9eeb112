"""Sources and trigger types by which workers hear of the engine: workers, functions, observers, log lines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import Worker
from iii_skill.filters.filter import Filter
from iii_skill.introspection import rows
from iii_skill.observers.observer import Observer
from iii_skill.observers.table import Observers
from iii_skill.sources import Fire, Source, SourceTriggers
from iii_skill.triggers import Trigger

WORKER = "iii-engine-functions"

ON_WORKERS = "engine::on-workers-changed"
ON_FUNCTIONS = "engine::on-functions-changed"
ON_OBSERVERS = "engine::on-observers-changed"
ON_LOG = "observability::on-log"

_SETTLE_S = 0.25
"""Seconds after the last change before `engine::functions-available` fires: one event per burst."""

_SEVERITY = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17}


class EngineEvent(SourceTriggers):
    """A trigger type without settings: every trigger hears every event."""

    worker_name = WORKER

    def __init__(self, source: Source, fire: Fire, trigger_type: str, description: str) -> None:
        super().__init__(source, fire)
        self.trigger_type = trigger_type
        self.description = description

    def read(self, trigger: Trigger) -> tuple[Filter, str | None]:
        """Everything, whatever it says."""
        return Filter.one_of({}), None


class EngineEvents:
    """Feeds the sources and trigger types of the engine from what changes in it."""

    def __init__(self, engine: Engine, observers: Observers | None) -> None:
        self._engine = engine
        self._workers = self._source(
            ON_WORKERS, "A worker connects, changes or leaves", "engine::workers-available"
        )
        self._functions = self._source(
            ON_FUNCTIONS, "Functions are added or removed", "engine::functions-available"
        )
        self._log = self._source(ON_LOG, "A worker logs a line", "log")
        self._timer: asyncio.TimerHandle | None = None
        engine.on_change.append(self._changed)
        if observers is not None:
            self._observers = self._source(ON_OBSERVERS, "An observer is in another state", None)
            observers.on_state.append(self._observer_changed)

    def logged(self, level: str, message: str, data: Any, service: str, ids: tuple[str, str]) -> None:
        """A worker logged a line; `ids` are trace and span."""
        if not self._log.listeners:
            return
        now = time.time_ns()
        event = {
            "attributes": {} if data is None else {"log.data": data},
            "body": message,
            "instrumentation_scope_name": None,
            "instrumentation_scope_version": None,
            "observed_timestamp_unix_nano": now,
            "resource": {},
            "service_name": service,
            "severity_number": _SEVERITY[level],
            "severity_text": level.upper(),
            "span_id": ids[1] or None,
            "timestamp_unix_nano": now,
            "trace_id": ids[0] or None,
        }
        # What triggers get has no `level`, and filters may ask for it all the same.
        self._log.happened(None, msgspec.json.encode(event), {**event, "level": level})

    def _source(self, function_id: str, description: str, trigger_type: str | None) -> Source:
        source = Source(function_id, description, worker_name=WORKER)
        self._engine.add_source(source)
        if trigger_type is not None:
            fire = self._engine.fanout.fire
            self._engine.add_provider(EngineEvent(source, fire, trigger_type, description))
        return source

    def _changed(self, what: str, worker: Worker | None) -> None:
        if what == "functions":
            if self._functions.listeners and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._functions_changed)
        elif worker is not None and self._workers.listeners:
            event = {"event": what, "worker_id": worker.id}
            self._workers.happened(None, msgspec.json.encode(event), event)

    def _functions_changed(self) -> None:
        self._timer = None
        listed = sorted(
            (rows.function_row(function) for function in self._engine.functions),
            key=lambda row: str(row["function_id"]),
        )
        event = {"event": "functions_changed", "functions": listed}
        self._functions.happened(None, msgspec.json.encode(event), event)

    def _observer_changed(self, observer: Observer) -> None:
        definition = observer.definition
        # An observer of these events would feed itself.
        if not self._observers.listeners or definition.source.function_id == ON_OBSERVERS:
            return
        event: dict[str, Any] = {
            "observer_id": observer.id,
            "function_id": definition.source.function_id,
            "target": definition.target.function_id,
            "state": observer.state.value,
        }
        if observer.reason is not None:
            event["reason"] = {"code": observer.reason.code, "message": observer.reason.message}
        self._observers.happened(None, msgspec.json.encode(event), event)
