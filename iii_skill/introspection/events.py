"""Trigger types by which workers hear of the engine itself: workers, functions and log lines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import Worker
from iii_skill.introspection import rows
from iii_skill.triggers import Trigger, TriggerProvider

_SETTLE_S = 0.25
"""Seconds after the last change before `engine::functions-available` fires: one event per burst."""

_SEVERITY = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17}


class EngineEvent(TriggerProvider):
    """A trigger type without settings: every trigger hears every event."""

    worker_name = "iii-engine-functions"

    def __init__(self, engine: Engine, trigger_type: str, description: str) -> None:
        self.trigger_type = trigger_type
        self.description = description
        self._engine = engine
        self._triggers: dict[str, Trigger] = {}

    def register(self, trigger: Trigger) -> None:
        """Start it."""
        self._triggers[trigger.id] = trigger

    def unregister(self, trigger: Trigger) -> None:
        """Stop it."""
        self._triggers.pop(trigger.id, None)

    @property
    def wanted(self) -> bool:
        """True when anybody listens."""
        return bool(self._triggers)

    def fire(self, event: dict[str, Any]) -> None:
        """Tell everybody, in order."""
        payload = msgspec.json.encode(event)
        for trigger in list(self._triggers.values()):
            self._engine.fanout.fire(trigger, None, payload)


class EventSource:
    """Feeds the three types from what changes in the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._workers = EngineEvent(
            engine, "engine::workers-available", "A worker connects, changes or leaves"
        )
        self._functions = EngineEvent(engine, "engine::functions-available", "Functions are added or removed")
        self._log = EngineEvent(engine, "log", "A worker logs a line")
        self._timer: asyncio.TimerHandle | None = None
        for notices in (self._workers, self._functions, self._log):
            engine.add_provider(notices)
        engine.on_change.append(self._changed)

    def logged(self, level: str, message: str, data: Any, service: str, ids: tuple[str, str]) -> None:
        """A worker logged a line; `ids` are trace and span."""
        if not self._log.wanted:
            return
        now = time.time_ns()
        self._log.fire(
            {
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
        )

    def _changed(self, what: str, worker: Worker | None) -> None:
        if what == "functions":
            if self._functions.wanted and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._functions_changed)
        elif worker is not None and self._workers.wanted:
            self._workers.fire({"event": what, "worker_id": worker.id})

    def _functions_changed(self) -> None:
        self._timer = None
        listed = sorted(
            (rows.function_row(function) for function in self._engine.functions),
            key=lambda row: str(row["function_id"]),
        )
        self._functions.fire({"event": "functions_changed", "functions": listed})
