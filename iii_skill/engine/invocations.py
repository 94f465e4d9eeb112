"""Calls on their way between workers: hand them over, take the answers, refuse what would hang."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from iii_skill.engine.calls import Call, Failure, Outcome, Result, no_reply
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.readable import WHY_UNREADABLE
from iii_skill.engine.stamp import stamp_caller, with_function
from iii_skill.engine.workers import Worker
from iii_skill.protocol.messages import FromWorker, InvocationResult, InvokeFunction

if TYPE_CHECKING:
    from iii_skill.engine.engine import Engine

ENQUEUE = "engine::queue::enqueue"
UNREADABLE = "payload_unreadable"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Invocations:
    """The calls of workers and the calls to workers."""

    def __init__(self, engine: Engine, readable: Callable[[bytes], bool]) -> None:
        self._engine = engine
        self._readable = readable

    def send(self, owner: Worker, call: Call) -> None:
        invocation_id = call.invocation_id
        if invocation_id is None or invocation_id in owner.executing:
            invocation_id = fresh_id()
        data = call.data
        # Events and HTTP payloads (no caller) are made or checked inside the host; an attached state worker
        # refuses what cannot be read by itself, as the one in the host does.
        if call.caller_id is not None and not owner.attached and not self._readable(data):
            call.reply(Failure(UNREADABLE, f"The call of {call.function_id} was not made: {WHY_UNREADABLE}"))
            return
        if call.metadata is not None and call.caller_id is not None and not self._readable(call.metadata):
            text = f"The call of {call.function_id} was not made, because of its metadata: {WHY_UNREADABLE}"
            call.reply(Failure(UNREADABLE, text))
            return
        if call.caller_id is not None:
            data = stamp_caller(data, call.caller_id)
        baggage = None if call.baggage is None else with_function(call.baggage, call.function_id)
        failure = owner.execute(invocation_id, call, data, baggage)
        if failure is not None:
            call.reply(failure)

    def invoked(self, worker: Worker, message: FromWorker) -> None:
        assert type(message) is InvokeFunction
        action, metadata, traceparent = message.action, message.metadata, message.traceparent
        if traceparent is not None and not _TRACEPARENT.fullmatch(traceparent):
            traceparent = None
        call = Call(
            message.function_id,
            bytes(message.data),  # type: ignore[arg-type]  # The connection lets no call without data pass.
            no_reply,
            message.namespace,
            worker.id,
            None if metadata is UNSET or bytes(metadata) == b"null" else bytes(metadata),
            traceparent,
            message.baggage,
        )
        if message.invocation_id is not None and (action is None or action.type != "void"):
            call.invocation_id = message.invocation_id
            call.reply = lambda outcome: worker.answer(call, outcome)
        if action is not None and action.type == "enqueue":
            self._enqueue(worker, call, action.queue)
        else:
            self._engine.invoke(call)

    def answered(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, InvocationResult)
        # Looked up among the calls of the sender alone: nobody answers for another worker.
        call = worker.executing.pop(message.invocation_id, None)
        if call is None:
            return
        if message.error is not None:
            call.reply(Failure(message.error.code, message.error.message, message.error.stacktrace))
            return
        value = None if message.result is UNSET else bytes(message.result)
        if value is None or (value == b"null" and not worker.attached):
            call.reply(Result(None))
        elif self._readable(value):
            call.reply(Result(value))
        else:
            text = f"The answer of {call.function_id} was not passed on: {WHY_UNREADABLE}"
            call.reply(Failure(UNREADABLE, text))

    def _enqueue(self, worker: Worker, call: Call, queue: str | None) -> None:
        """Hand an enqueue action to whoever provides the queue, or say who would."""
        if self._engine.functions.lookup(ENQUEUE, None) is None:
            text = (
                f"No queue provider is installed: '{call.function_id}' was not enqueued"
                f"{'' if queue is None else f' on {queue!r}'}. Queues are served by the worker `iii-queue` "
                "of the iii engine (`iii worker add queue`), not by this host; call the function without an "
                "action, or as void."
            )
            call.reply(Failure("enqueue_error", text))
            return
        receipt = fresh_id()
        payload = {
            "queue": queue,
            "function_id": call.function_id,
            "data": msgspec.Raw(call.data),
            "messageReceiptId": receipt,
            "traceparent": call.traceparent,
            "baggage": call.baggage,
        }
        if call.namespace is not None:
            payload["namespace"] = call.namespace

        def accepted(outcome: Outcome) -> None:
            if type(outcome) is Result:
                call.succeed(msgspec.json.encode({"messageReceiptId": receipt}))
            else:
                call.reply(outcome)

        self._engine.invoke(Call(ENQUEUE, msgspec.json.encode(payload), accepted, caller_id=worker.id))
