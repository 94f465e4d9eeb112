"""How functions, workers, triggers and trigger types look in the answers of `engine::*`."""

from __future__ import annotations

from typing import Any

import msgspec

from iii_skill.engine.engine import Engine
from iii_skill.engine.functions import Function
from iii_skill.engine.trigger_table import TriggerTable, TriggerType
from iii_skill.engine.workers import Worker
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.triggers import Trigger, TriggerProvider

Row = dict[str, Any]


def function_row(function: Function) -> Row:
    """One line of `engine::functions::list`; what is not said is left out."""
    row: Row = {
        "function_id": function.id,
        "namespace": function.namespace,
        "worker_name": function.shown_worker_name,
        "description": function.description,
        "metadata": function.metadata,
    }
    return present(row)


def observed_row(function: Function, engine: Engine) -> Row:
    """What such a line says beside to those who know of observers."""
    row: Row = {
        "args_format": function.args_format,
        "private": function.private,
        "observable": function.observable,
        "observer_count": engine.observer_count(function),
    }
    return present(row)


def function_info(function: Function, engine: Engine) -> Row:
    """A function with its schemas and the triggers that point at it."""
    return function_row(function) | present(
        {
            "request_schema": function.request_schema,
            "response_schema": function.response_schema,
            "registered_triggers": [
                {"id": t.id, "trigger_type": t.trigger_type, "config": t.settings()}
                for t in engine.triggers.placed()
                if t.function_id == function.id
            ],
        }
    )


def worker_row(worker: Worker, function_count: int) -> Row:
    """One line of `engine::workers::list`, nulls included."""
    return {
        "id": worker.id,
        "name": worker.name,
        "description": worker.description,
        "version": worker.version,
        "namespace": worker.namespace,
        "runtime": worker.runtime,
        "os": worker.os,
        "status": "connected",
        "function_count": function_count,
        "connected_at_ms": worker.connected_at_ms,
        "active_invocations": len(worker.executing),
        "isolation": worker.isolation,
        "ip_address": worker.address,
    }


def builtin_workers(engine: Engine) -> list[Row]:
    """The parts of the host that own functions, as workers of the runtime `engine`."""
    counts: dict[str, int] = {}
    for function in engine.functions.builtins.values():
        name = function.shown_worker_name
        counts[name] = counts.get(name, 0) + 1
    return [
        {
            "id": name,
            "name": name,
            "description": None,
            "version": None,
            "namespace": DEFAULT_NAMESPACE,
            "runtime": "engine",
            "os": None,
            "status": "available",
            "function_count": count,
            "connected_at_ms": None,
            "active_invocations": 0,
            "isolation": "in-process",
            "ip_address": None,
        }
        for name, count in sorted(counts.items())
    ]


def worker_info(engine: Engine, name: str, namespace: str | None) -> Row | None:
    """A worker with everything it registered, or None."""
    rows = {row["name"]: row for row in builtin_workers(engine)}
    if name in rows and namespace in (None, DEFAULT_NAMESPACE):
        functions = [f for f in engine.functions.builtins.values() if f.shown_worker_name == name]
        types = [row for row in type_rows(engine.triggers) if row["worker_name"] == name]
        return {
            "worker": {**rows[name], "internal": True},
            "functions": [function_row(function) for function in functions],
            "trigger_types": types,
            "registered_triggers": [],
        }
    for worker in engine.workers.values():
        if worker.name == name and namespace in (None, worker.namespace):
            owned = engine.functions.owned_by(worker)
            return {
                "worker": {**worker_row(worker, len(owned)), "pid": worker.pid, "internal": False},
                "functions": [function_row(function) for function in owned],
                "trigger_types": [r for r in type_rows(engine.triggers) if r["worker_name"] == name],
                "registered_triggers": [trigger_row(t, engine) for t in engine.triggers.owned_by(worker)],
            }
    return None


def type_rows(table: TriggerTable) -> list[Row]:
    """One line per trigger type."""
    rows = [
        {
            "id": kind.trigger_type,
            "namespace": DEFAULT_NAMESPACE,
            "worker_name": _provider_name(kind.trigger_type, kind),
            "description": kind.description,
        }
        for kind in table.builtin_types.values()
    ]
    return rows + [
        {
            "id": kind.id,
            "namespace": kind.namespace,
            "worker_name": kind.owner.name or kind.id.split("::", 1)[0],
            "description": kind.description,
        }
        for kind in table.types.values()
    ]


def type_info(table: TriggerTable, type_id: str, namespace: str | None) -> Row | None:
    """A trigger type with its schemas, or None."""
    provider = table.provider(type_id, namespace, None)
    if provider is None:
        return None
    row = next(
        row
        for row in type_rows(table)
        if row["id"] == type_id
        and (not isinstance(provider, TriggerType) or row["namespace"] == provider.namespace)
    )
    row = {name: value for name, value in row.items() if name != "description"} | present(
        {
            "description": provider.description,
            "configuration_schema": provider.configuration_schema,
            "request_schema": provider.request_schema,
            "response_schema": provider.response_schema,
        }
    )
    row["instance_count"] = sum(1 for trigger in table.placed() if trigger.trigger_type == type_id)
    return row


def trigger_row(trigger: Trigger, engine: Engine) -> Row:
    """One line of `engine::registered-triggers::list`."""
    function = engine.functions.lookup(trigger.function_id, trigger.namespace)
    name = function.shown_worker_name if function is not None else trigger.function_id.split("::", 1)[0]
    return {
        "id": trigger.id,
        "trigger_type": trigger.trigger_type,
        "function_id": trigger.function_id,
        "worker_name": name,
        "config": trigger.settings(),
        "config_summary": trigger.config.decode(),
    }


def trigger_info(trigger: Trigger, engine: Engine) -> Row:
    """A trigger with its type and its function."""
    function = engine.functions.lookup(trigger.function_id, trigger.namespace)
    metadata = None if trigger.metadata is None else msgspec.json.decode(trigger.metadata)
    extra = {
        "metadata": metadata,
        "trigger": type_info(engine.triggers, trigger.trigger_type, trigger.trigger_namespace),
        "function": None if function is None else function_row(function),
    }
    return trigger_row(trigger, engine) | present(extra)


def _provider_name(type_id: str, provider: TriggerProvider) -> str:
    return provider.worker_name or f"iii-{type_id}"


def present(row: Row) -> Row:
    """The row without what is not said."""
    return {name: value for name, value in row.items() if value is not None}
