"""What workers offer and ask for: functions, triggers, trigger types, and an old connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from iii_skill.engine.calls import Failure
from iii_skill.engine.functions import Function, Handler
from iii_skill.engine.readable import WHY_UNREADABLE, Readable, listable
from iii_skill.engine.trigger_table import TriggerType
from iii_skill.engine.triggers import Trigger
from iii_skill.engine.workers import Worker
from iii_skill.errors import TriggerRefused
from iii_skill.protocol.messages import (
    ErrorBody,
    FromWorker,
    Reattach,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
)
from iii_skill.protocol.outgoing import RegistrationRejected

if TYPE_CHECKING:
    from iii_skill.engine.engine import Engine

logger = logging.getLogger(__name__)

CONFLICT = "FUNCTION_NAMESPACE_CONFLICT"


class Registrations:
    """The registrations of workers; nobody takes what another live worker or the host holds."""

    def __init__(self, engine: Engine, readable: Readable) -> None:
        self._engine = engine
        self._readable = readable

    def register_function(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, RegisterFunction)
        if self._engine.functions.is_reserved(message.id):
            self._reject(worker, message.id, "")
            return
        handler = _not_invokable(message.id) if message.invocation is not None else None
        function = Function(
            message.id,
            worker.namespace,
            worker,
            handler,
            message.description,
            *self._listable(
                worker, message.id, (message.request_format, message.response_format, message.metadata)
            ),
        )
        held = self._engine.functions.add(function)
        if held is not None:
            self._reject(worker, message.id, held.owner.id if held.owner else "")
            return
        self._engine.changed("functions", worker)

    def _listable(self, worker: Worker, name: str, parts: Sequence[Any]) -> list[Any]:
        """The parts, without those that would make the listings unreadable for every worker."""
        kept: list[Any] = []
        for part in parts:
            if part is not None and not listable(self._readable, msgspec.json.encode(part)):
                logger.warning(
                    "%s: a schema or metadata of '%s' is left out: %s", worker.label, name, WHY_UNREADABLE
                )
                part = None
            kept.append(part)
        return kept

    def _reject(self, worker: Worker, function_id: str, owner_id: str) -> None:
        by = f"worker {owner_id}" if owner_id else "this host"
        logger.warning("%s may not register '%s': it belongs to %s", worker.label, function_id, by)
        worker.send(
            RegistrationRejected(
                CONFLICT, worker.namespace, owner_worker_id=owner_id, function_id=function_id
            )
        )

    def unregister_function(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterFunction)
        if self._engine.functions.remove(worker.namespace, message.id, worker):
            self._engine.changed("functions", worker)

    def register_trigger(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, RegisterTrigger)
        metadata = bytes(message.metadata)
        trigger = Trigger(
            message.id,
            message.trigger_type,
            message.function_id,
            bytes(message.config),
            None if metadata == b"null" else metadata,
            message.namespace,
            message.trigger_namespace,
            worker.id,
            worker.namespace,
        )
        try:
            self._engine.triggers.add(trigger, worker)
        except TriggerRefused as error:
            logger.warning("%s: trigger of type %s: %s", worker.label, trigger.trigger_type, error.message)
            body = ErrorBody(error.code, error.message)
            worker.send(
                TriggerRegistrationResult(trigger.id, trigger.trigger_type, trigger.function_id, body)
            )

    def unregister_trigger(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterTrigger)
        if self._engine.triggers.remove(message.id, worker.id):
            self._engine.fanout.forget(message.id)

    def register_type(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, RegisterTriggerType)
        if message.id in self._engine.triggers.builtin_types:
            logger.warning(
                "%s may not provide the trigger type '%s': it belongs to this host", worker.label, message.id
            )
            worker.send(
                RegistrationRejected(
                    "TRIGGER_TYPE_NAMESPACE_CONFLICT",
                    worker.namespace,
                    owner_worker_id="",
                    function_id=message.id,
                )
            )
            return
        self._engine.triggers.add_type(
            TriggerType(
                message.id,
                message.namespace or worker.namespace,
                worker,
                message.description,
                *self._listable(
                    worker, message.id, (message.trigger_request_format, message.call_request_format)
                ),
            )
        )

    def unregister_type(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterTriggerType)
        self._engine.triggers.remove_type(message.id, message.namespace or worker.namespace, worker)

    def judged(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, TriggerRegistrationResult)
        if message.error is None:
            return
        trigger = self._engine.triggers.rejected(message.id, worker)
        if trigger is None or trigger.owner_id is None:
            return
        owner = self._engine.workers.get(trigger.owner_id)
        if owner is not None:
            owner.send(message)

    def reattach(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, Reattach)
        old = self._engine.workers.get(message.previous_worker_id)
        if old is None or old is worker or old.token != message.reattach_token:
            return
        self._engine.disconnect(old)
        old.close(1012, "taken over by a newer connection")


def _not_invokable(function_id: str) -> Handler:
    """The function lives behind a URL, and this host calls none."""
    failure = Failure(
        "http_invocation_unsupported",
        f"Function {function_id} is registered with an HTTP invocation. This host does not call URLs; "
        "the worker `iii-http-functions` of the iii engine does.",
    )
    return lambda call: call.reply(failure)
