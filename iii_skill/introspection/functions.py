"""The `engine::*` functions: workers identify themselves, and ask what there is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from iii_skill.calls import Call
from iii_skill.engine.activity import Activity
from iii_skill.engine.engine import Engine
from iii_skill.errors import CallerError, InputError
from iii_skill.introspection.answers import EngineAnswers, bad_input
from iii_skill.introspection.events import WORKER, EngineEvents
from iii_skill.introspection.observers import ObserverAnswers
from iii_skill.introspection.requests import (
    EngineRequest,
    FunctionInfoRequest,
    IdentifyRequest,
    IdRequest,
    ListRequest,
    LogRequest,
    NamedRequest,
    ObserversRequest,
    TriggerRequest,
)
from iii_skill.observers.table import Observers

logger = logging.getLogger("iii_skill.workers")

ACTIVITY = "iii-skill::triggers::activity"
"""By id of a trigger or observer when its function was called last; recorded from the first call on."""


def add_engine_functions(engine: Engine, observers: Observers | None = None) -> None:
    """Register every `engine::*` function of the host; those about observers where there are any."""
    answers = EngineAnswers(engine)
    table: dict[str, tuple[Callable[..., Any], type[EngineRequest], str]] = {
        "engine::workers::register": (answers.identify, IdentifyRequest, "Say name, SDK and namespace"),
        "engine::functions::list": (answers.list_functions, ListRequest, "List functions"),
        "engine::functions::info": (answers.function_info, FunctionInfoRequest, "Describe functions"),
        "engine::workers::list": (answers.list_workers, ListRequest, "List workers"),
        "engine::workers::info": (answers.worker_info, NamedRequest, "Describe a worker"),
        "engine::triggers::list": (answers.list_types, ListRequest, "List trigger types"),
        "engine::triggers::info": (answers.type_info, IdRequest, "Describe a trigger type"),
        "engine::registered-triggers::list": (answers.list_triggers, ListRequest, "List triggers"),
        "engine::registered-triggers::info": (answers.trigger_info, IdRequest, "Describe a trigger"),
        "engine::register_trigger": (
            answers.register_trigger,
            TriggerRequest,
            "Register a lasting trigger",
        ),
        "engine::unregister_trigger": (answers.unregister_trigger, IdRequest, "Remove such a trigger"),
    }
    if observers is not None:
        asked = ObserverAnswers(engine, observers)
        table["engine::observers::list"] = (asked.list, ObserversRequest, "List observers")
        table["engine::observers::get"] = (asked.get, IdRequest, "Describe an observer")
    table[ACTIVITY] = (lambda _call, _request: _activity(engine), ListRequest, "When triggers fired, and how")
    for function_id, (answer, request, description) in table.items():
        _add(engine, function_id, answer, request, description)
    engine.add_function(
        "engine::channels::create",
        engine.channels.handle_create,
        description="Create a channel: a reference for one writer and one for one reader",
        worker_name=WORKER,
    )
    notices = EngineEvents(engine, observers)
    for level in ("trace", "debug", "info", "warn", "error"):
        _add(engine, f"engine::log::{level}", _log_at(level, notices), LogRequest, f"Log at level {level}")


def _add(
    engine: Engine,
    function_id: str,
    answer: Callable[..., Any],
    request: type[EngineRequest],
    description: str,
) -> None:
    decode = msgspec.json.Decoder(request).decode

    def handler(call: Call) -> None:
        try:
            if call.data[:1] != b"{":
                raise InputError(bad_input(function_id, "expected an object"))
            result = answer(call, decode(call.data))
        except msgspec.DecodeError as error:
            call.fail(InputError(bad_input(function_id, str(error))))
        except CallerError as error:
            call.fail(error)
        else:
            call.succeed(None if result is None else msgspec.json.encode(result))

    # Ids that begin as the engine's own do are hidden anyway.
    hidden = {"internal": True} if function_id == ACTIVITY else None
    engine.add_function(function_id, handler, description=description, worker_name=WORKER, metadata=hidden)


def _activity(engine: Engine) -> Any:
    if engine.fanout.activity is None:
        engine.fanout.activity = Activity()
    return {"since_ms": engine.fanout.activity.since_ms, "by_id": engine.fanout.activity.by_id}


def _log_at(level: str, notices: EngineEvents) -> Callable[[Call, LogRequest], None]:
    number = {"trace": logging.DEBUG, "warn": logging.WARNING}.get(level) or getattr(logging, level.upper())

    def log(call: Call, request: LogRequest) -> None:
        service = request.service_name or "worker"
        text = "[%s] %s" if request.data is None else "[%s] %s %s"
        ids = (request.trace_id or "", request.span_id or "")
        said = (x for x in (service, request.message, request.data) if x is not None)
        logger.log(number, text, *said, extra={"trace": ids, "traceparent": call.traceparent})
        notices.logged(level, request.message, request.data, service, ids)

    return log
