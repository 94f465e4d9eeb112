"""Dispatcher: what each message of a worker does to the engine; the messages of the wire end here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from iii_skill.calls import Call, Failure, Result, no_reply, trace_context
from iii_skill.engine.engine import Engine
from iii_skill.engine.jobs import Jobs
from iii_skill.engine.registrations import function_of, trigger_type_of
from iii_skill.engine.workers import TOO_LARGE, Said, Worker
from iii_skill.errors import TriggerRefused
from iii_skill.outline import Short
from iii_skill.protocol.connection import UNREADABLE
from iii_skill.protocol.messages import (
    ErrorBody,
    FromWorker,
    InvocationResult,
    InvokeFunction,
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
from iii_skill.readable import WHY_UNREADABLE, Inspected, readable
from iii_skill.state.functions import IMPORT
from iii_skill.triggers import Trigger

logger = logging.getLogger(__name__)

CONFLICT = "FUNCTION_NAMESPACE_CONFLICT"

VALUE_LEVELS = {
    "state::set": 3,
    "state::compare-and-set": 3,
    "state::update": 5,
    IMPORT: 3,
}
"""Functions of the host that bring values, and the level of a message from on which those lie."""

_LONGEST = {"state::": 8 * 1024 * 1024, "engine::": 1024 * 1024, "configuration::": 1024 * 1024}
"""Bytes that the host's other functions take; reading more of them would hold everybody up."""


class Dispatcher:
    """Hands the messages of all workers to one engine; what is held is not taken."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._builtins = engine.functions.builtins
        self._state = engine.functions.state
        self._jobs = Jobs(engine)
        self._actions: dict[type, Callable[[Worker, Any], None]] = {
            InvokeFunction: self.invoke,
            InvocationResult: self.result,
            RegisterFunction: self._register_function,
            UnregisterFunction: self._unregister_function,
            RegisterTrigger: self._register_trigger,
            UnregisterTrigger: self._unregister_trigger,
            RegisterTriggerType: self._register_type,
            UnregisterTriggerType: self._unregister_type,
            TriggerRegistrationResult: self._trigger_result,
            Reattach: self._reattach,
        }

    def handle(self, worker: Worker, message: FromWorker) -> None:
        """Act on one message; what nobody needs (service names, statistics) is dropped."""
        action = self._actions.get(type(message)) or self._engine.actions.get(type(message))
        if action is not None and worker.live:
            action(worker, message)

    def handle_long(self, worker: Worker, message: FromWorker, found: Inspected, short: Short) -> None:
        """The same for a call or an answer out of a long text; `short` is the text that it was read from."""
        if type(message) is InvokeFunction and worker.live:
            self.invoke(worker, message, (found, short))
        elif type(message) is InvocationResult and worker.live:
            self.result(worker, message, short)

    def invoke(
        self, worker: Worker, message: InvokeFunction, long: tuple[Inspected, Short] | None = None
    ) -> None:
        """A call of a worker; `long`: it was looked at before, and the message was read from a short text."""
        action, metadata, traceparent = message.action, message.metadata, message.traceparent
        function_id, invocation_id = message.function_id, message.invocation_id
        call = Call(
            function_id,
            bytes(message.data),  # type: ignore[arg-type]  # The connection lets no call without data pass.
            no_reply,
            message.namespace,
            worker.id,
            None if metadata is UNSET or bytes(metadata) == b"null" else bytes(metadata),
            None if traceparent is None else trace_context(traceparent),
            message.baggage,
            None,
            worker.as_caller,
        )
        if message.caller is not UNSET:
            call.caller = _caller(worker, bytes(message.caller))
        if message.observe_depth:
            call.depth = max(message.observe_depth, 0)
        if invocation_id is not None and (action is None or action.type != "void"):
            call.invocation_id = invocation_id
            if function_id in self._state:
                # Their answers may be large, and none waits for anything that this worker still sends.
                worker.waiting += 1
                call.reply = partial(worker.answer, call, 1)
            else:
                call.reply = partial(worker.answer, call, 0)
        if long is not None:
            refused = self._whole(call, *long)
            if refused is not None:
                call.reply(refused)
                return
        if action is not None and action.type == "enqueue":
            self._jobs.enqueue(worker, call, action.queue)
        elif message.activation is not None:
            self._engine.through(worker, message.activation.observer_id, call)
        else:
            self._engine.invoke(call)

    def _whole(self, call: Call, found: Inspected, short: Short) -> Failure | None:
        """Give a long call what its message had; a Failure where that is more than the function takes."""
        if call.metadata is not None:
            call.metadata = short.restore(call.metadata)
        call.levels = found.levels - 1
        span = short.span(call.data)
        level = VALUE_LEVELS.get(call.function_id)
        if level is not None and span is not None:
            call.outline = found.outline.short(level, span)
            call.data = call.outline.text
            return None
        call.data = short.restore(call.data)
        if level is None and call.function_id in self._builtins:
            for prefix, most in _LONGEST.items():
                if call.function_id.startswith(prefix) and len(call.data) > most:
                    text = f"The payload of {call.function_id} has {len(call.data)} bytes; it takes {most}."
                    return Failure(TOO_LARGE, text)
        return None

    def result(self, worker: Worker, message: InvocationResult, short: Short | None = None) -> None:
        """An answer of a worker; `short`: the text that a long one was read from."""
        # Looked up among the calls of the sender alone: nobody answers for another worker.
        call = worker.executing.pop(message.invocation_id, None)
        if call is None:
            return
        call.matched, call.delivered = message.matched, message.delivered is True
        if message.error is not None:
            call.reply(Failure(message.error.code, message.error.message, message.error.stacktrace))
            return
        value = None if message.result is UNSET else bytes(message.result)
        if value is None or (value == b"null" and not worker.attached):
            call.reply(Result(None))
        elif short is not None:
            call.reply(Result(short.restore(value)))
        elif readable(value):
            call.reply(Result(value))
        else:
            text = f"The answer of {call.function_id} was not passed on: {WHY_UNREADABLE}"
            call.reply(Failure(UNREADABLE, text))

    def _register_function(self, worker: Worker, message: RegisterFunction) -> None:
        if self._engine.functions.is_reserved(message.id):
            self._reject(worker, message.id, "")
            return
        function = function_of(worker, message)
        held = self._engine.functions.add(function)
        if held is not None:
            self._reject(worker, message.id, held.owner.id if held.owner else "")
            return
        self._engine.function_changed(function)
        self._engine.changed("functions", worker)

    def _reject(self, worker: Worker, function_id: str, owner_id: str) -> None:
        by = f"worker {owner_id}" if owner_id else "this host"
        logger.warning("%s may not register '%s': it belongs to %s", worker.label, function_id, by)
        self._refuse(worker, CONFLICT, function_id, owner_id)

    def _refuse(self, worker: Worker, code: str, function_id: str, owner_id: str = "") -> None:
        worker.send(
            RegistrationRejected(code, worker.namespace, owner_worker_id=owner_id, function_id=function_id)
        )

    def _unregister_function(self, worker: Worker, message: UnregisterFunction) -> None:
        function = self._engine.functions.remove(worker.namespace, message.id, worker)
        if function is not None:
            self._engine.function_changed(function)
            self._engine.changed("functions", worker)

    def _register_trigger(self, worker: Worker, message: RegisterTrigger) -> None:
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

    def _unregister_trigger(self, worker: Worker, message: UnregisterTrigger) -> None:
        if self._engine.triggers.remove(message.id, worker.id):
            self._engine.fanout.forget(message.id)
        else:
            self._engine.triggers.withdraw(message.id, worker)

    def _register_type(self, worker: Worker, message: RegisterTriggerType) -> None:
        if message.id in self._engine.triggers.builtin_types:
            logger.warning(
                "%s may not provide the trigger type '%s': it belongs to this host", worker.label, message.id
            )
            # Python SDKs 0.24 and 0.25 end the worker for good on every code but this one.
            self._refuse(worker, CONFLICT, message.id)
            return
        held = self._engine.triggers.add_type(trigger_type_of(worker, message))
        if held is not None:
            logger.warning(
                "%s may not provide the trigger type '%s' now: %s does",
                worker.label,
                message.id,
                held.owner.label,
            )
            self._refuse(worker, CONFLICT, message.id, held.owner.id)

    def _unregister_type(self, worker: Worker, message: UnregisterTriggerType) -> None:
        self._engine.triggers.remove_type(message.id, message.namespace or worker.namespace, worker)

    def _trigger_result(self, worker: Worker, message: TriggerRegistrationResult) -> None:
        if message.error is None:
            return
        trigger = self._engine.triggers.rejected(message.id, worker)
        if trigger is None or trigger.owner_id is None:
            return
        owner = self._engine.workers.get(trigger.owner_id)
        if owner is not None:
            owner.send(message)

    def _reattach(self, worker: Worker, message: Reattach) -> None:
        old = self._engine.workers.get(message.previous_worker_id)
        if old is None or old is worker or old.token != message.reattach_token:
            return
        self._engine.functions.prefer(worker, old)
        self._engine.triggers.prefer(worker, old)
        self._engine.disconnect(old)
        old.close(1012, "taken over by a newer connection")


def _caller(worker: Worker, said: bytes) -> bytes:
    """The worker, and the handler out of which it calls where that can be read."""
    try:
        handler = msgspec.json.decode(said, type=Said)
    except msgspec.DecodeError:
        return worker.as_caller
    return worker.caller_of(handler) if readable(said) else worker.as_caller
