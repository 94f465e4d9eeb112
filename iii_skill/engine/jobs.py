"""Jobs: calls with the action `enqueue`, on their way to whoever provides the queue."""

from __future__ import annotations

import logging

import msgspec

from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.workers import Worker
from iii_skill.few_warnings import FewWarnings
from iii_skill.protocol.connection import DEFAULT_NAMESPACE

logger = logging.getLogger(__name__)

ENQUEUE = "engine::queue::enqueue"


class Jobs:
    """Hands jobs over; the worker is told when one is stored, with its receipt."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._refused = FewWarnings(logger, "jobs that were not stored")

    def enqueue(self, worker: Worker, call: Call, queue: str | None) -> None:
        """Hand an enqueue action to whoever provides the queue, or say who would."""
        if self._engine.functions.lookup(ENQUEUE, None) is None:
            text = (
                f"No queue provider is installed: '{call.function_id}' was not enqueued"
                f"{'' if queue is None else f' on {queue!r}'}. Queues are served by the worker `iii-queue`, "
                "which this host was started without: list it in iii-config.yaml."
            )
            logger.warning("%s: %s", worker.label, text, extra={"traceparent": call.traceparent})
            call.reply(Failure("enqueue_error", text))
            return
        receipt = fresh_id()
        payload = {
            "queue": queue,
            "function_id": call.function_id,
            "data": msgspec.Raw(call.data),
            "messageReceiptId": receipt,
            "traceparent": call.traceparent,
            "baggage": ",".join(filter(None, (call.baggage, f"iii.function.id={call.function_id}"))),
        }
        if call.namespace not in (None, DEFAULT_NAMESPACE):
            payload["namespace"] = call.namespace

        def accepted(outcome: Outcome) -> None:
            if type(outcome) is Result:
                call.succeed(msgspec.json.encode({"messageReceiptId": receipt}))
                return
            assert isinstance(outcome, Failure)
            text, trace = "a job was not stored: %s", call.traceparent
            self._refused.warn(call.function_id, text, outcome.message, traceparent=trace)
            if outcome.code != "enqueue_error":
                outcome = Failure("enqueue_error", f"{outcome.code}: {outcome.message}")
            call.reply(outcome)

        self._engine.invoke(Call(ENQUEUE, msgspec.json.encode(payload), accepted, invocation_id=fresh_id()))
