"""Registrations: what the messages of workers offer, as the engine keeps and lists it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from iii_skill.calls import Call, Failure, Handler
from iii_skill.engine.functions import Function, private_call
from iii_skill.engine.trigger_table import TriggerType
from iii_skill.engine.workers import Worker
from iii_skill.protocol.messages import RegisterFunction, RegisterTriggerType
from iii_skill.readable import WHY_UNREADABLE, listable

logger = logging.getLogger(__name__)

LONGEST_PART = 256 * 1024
"""Bytes of a schema or of metadata; the listings hold those of all functions."""


class ObserverRules(msgspec.Struct, frozen=True):
    """What SDK 0.25 says about the observers of a function; later ones say it in the message itself."""

    delivery: str | None = None
    args_format: Any = None
    legacy_trigger_type: str | None = None
    allow: bool | None = None


def function_of(worker: Worker, message: RegisterFunction) -> Function:
    """The function that a worker offers."""
    said = _observed(message)
    handler = None
    if message.invocation is not None:
        handler = _not_invokable(message.id)
    elif message.private:
        handler = _only_for(worker)
    request, response, metadata, args_format = _listable(
        worker,
        message.id,
        (message.request_format, message.response_format, message.metadata, said.args_format),
    )
    return Function(
        message.id,
        worker.namespace,
        worker,
        handler,
        message.description,
        request,
        response,
        metadata,
        args_format=args_format,
        private=message.private is True,
        observable=message.observable is not False and said.allow is not False,
        own_delivery=said.delivery == "owner",
        legacy_trigger_type=said.legacy_trigger_type,
        in_process="local-dispatch.v1" in worker.features and message.invocation is None,
    )


def trigger_type_of(worker: Worker, message: RegisterTriggerType) -> TriggerType:
    """The trigger type that a worker provides."""
    schemas = _listable(worker, message.id, (message.trigger_request_format, message.call_request_format))
    return TriggerType(
        message.id, message.namespace or worker.namespace, worker, message.description, *schemas
    )


def _listable(worker: Worker, name: str, parts: Sequence[Any]) -> list[Any]:
    """The parts, without those that would make the listings unreadable for every worker."""
    kept: list[Any] = []
    for part in parts:
        if part is not None:
            encoded = msgspec.json.encode(part)
            if len(encoded) > LONGEST_PART or not listable(encoded):
                reason = WHY_UNREADABLE if len(encoded) <= LONGEST_PART else f"{len(encoded)} bytes."
                logger.warning("%s: a schema or metadata of '%s' is left out: %s", worker.label, name, reason)
                part = None
        kept.append(part)
    return kept


def _observed(message: RegisterFunction) -> ObserverRules:
    """What a worker says about the observers of its function, whichever SDK it has."""
    try:
        said = msgspec.convert(message.observe or {}, ObserverRules)
    except msgspec.ValidationError:
        said = ObserverRules()
    if message.args_format is not None:
        said = msgspec.structs.replace(said, args_format=message.args_format)
    return said


def _only_for(owner: Worker) -> Handler:
    """The handler of a private function: its worker calls it, and the host for an observer."""

    def handler(call: Call) -> None:
        if call.caller_id == owner.id or call.activation is not None:
            owner.execute(call)
        else:
            call.reply(private_call(call.function_id, owner.label))

    return handler


def _not_invokable(function_id: str) -> Handler:
    """The function lives behind a URL, and this host calls none."""
    failure = Failure(
        "http_invocation_unsupported",
        f"Function {function_id} is registered with an HTTP invocation. This host does not call URLs; "
        "the worker `iii-http-functions` of the iii engine does.",
    )
    return lambda call: call.reply(failure)
