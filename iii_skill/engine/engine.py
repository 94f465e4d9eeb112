"""Engine: takes the messages of workers, routes calls to functions and answers back to callers."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable

import msgspec
from msgspec import UNSET

from iii_skill.engine.calls import Call, Failure, Outcome, Result
from iii_skill.engine.channels import Channels
from iii_skill.engine.fanout import DEFAULT_TIMEOUT_S, Fanout
from iii_skill.engine.functions import Function, Functions, Handler
from iii_skill.engine.stamp import stamp_caller, with_function
from iii_skill.engine.trigger_table import TriggerTable, TriggerType
from iii_skill.engine.triggers import Trigger, TriggerProvider
from iii_skill.engine.workers import Worker
from iii_skill.errors import InvocationError, TriggerRefused
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.protocol.messages import (
    ErrorBody,
    FromWorker,
    InvocationResult,
    InvokeFunction,
    Reattach,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    RegistrationRejected,
    TriggerRegistrationResult,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
)

logger = logging.getLogger(__name__)

STOPPED = Failure("invocation_stopped", "Invocation stopped")
CONFLICT = "FUNCTION_NAMESPACE_CONFLICT"
ENQUEUE = "engine::queue::enqueue"

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Engine:
    """The router. All methods are called on the event loop; none of them blocks."""

    def __init__(self, *, handler_timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.functions = Functions()
        self.triggers = TriggerTable()
        self.workers: dict[str, Worker] = {}
        self.fanout = Fanout(self.invoke, timeout_s=handler_timeout_s)
        self.channels = Channels()
        self.on_change: list[Callable[[str, Worker | None], None]] = []
        """Called with what changed: `functions`, `worker_connected`, `worker_metadata_updated`, …"""
        self._routes: dict[type, Callable[[Worker, FromWorker], None]] = {
            InvokeFunction: self._invoked,
            InvocationResult: self._answered,
            RegisterFunction: self._register_function,
            UnregisterFunction: self._unregister_function,
            RegisterTrigger: self._register_trigger,
            UnregisterTrigger: self._unregister_trigger,
            RegisterTriggerType: self._register_type,
            UnregisterTriggerType: self._unregister_type,
            TriggerRegistrationResult: self._judged,
            Reattach: self._reattach,
        }

    # What drivers call.

    def connect(self, worker: Worker) -> None:
        """A worker is there."""
        self.workers[worker.id] = worker
        self.changed("worker_connected", worker)

    def disconnect(self, worker: Worker) -> None:
        """A worker is gone: its calls fail at once, everything it registered ends. Safe to call twice."""
        if self.workers.pop(worker.id, None) is None:
            return
        worker.live = False
        for trigger in self.triggers.owned_by(worker):
            self.fanout.forget(trigger.id)
        self.triggers.remove_worker(worker)
        functions = self.functions.remove_worker(worker)
        executing, worker.executing = worker.executing, {}
        for call in executing.values():
            call.reply(STOPPED)
        if functions:
            self.changed("functions", worker)
        self.changed("worker_disconnected", worker)

    def handle(self, worker: Worker, message: FromWorker) -> None:
        """Route one message of a worker; what nobody needs (service names, observer reports) is dropped."""
        route = self._routes.get(type(message))
        if route is not None and worker.live:
            route(worker, message)

    # What everyone inside the host calls.

    def invoke(self, call: Call) -> None:
        """Route a call; `call.reply` is called exactly once, at once or later, without a time-out."""
        function = self.functions.find(call.function_id, call.namespace)
        if type(function) is Failure:
            call.reply(function)
            return
        assert isinstance(function, Function)
        if function.handler is not None:
            function.handler(call)
            return
        assert function.owner is not None
        self._send_call(function.owner, call)

    async def trigger(
        self,
        function_id: str,
        data: bytes,
        *,
        namespace: str | None = None,
        caller_id: str | None = None,
        metadata: bytes | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        """The encoded result (None: no `result`); raises InvocationError, code TIMEOUT after `timeout` s."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        self.invoke(Call(function_id, data, settle, namespace, caller_id, metadata))
        try:
            outcome = await asyncio.wait_for(future, timeout)
        except TimeoutError:
            message = f"Invocation of '{function_id}' timed out after {timeout} s; its outcome is unknown."
            raise InvocationError(message, code="TIMEOUT") from None
        if type(outcome) is Result:
            return outcome.value
        assert isinstance(outcome, Failure)
        raise InvocationError(outcome.message, code=outcome.code, stacktrace=outcome.stacktrace)

    def add_function(
        self,
        function_id: str,
        handler: Handler,
        *,
        description: str | None = None,
        request_schema: object = None,
        response_schema: object = None,
        metadata: object = None,
        worker_name: str | None = None,
    ) -> None:
        """Add a function inside the host; it answers in every namespace, and no worker may claim its id."""
        self.functions.add_builtin(
            Function(
                function_id,
                DEFAULT_NAMESPACE,
                None,
                handler,
                description,
                request_schema,
                response_schema,
                metadata,
                worker_name,
            )
        )
        self.changed("functions", None)

    def remove_function(self, function_id: str) -> None:
        """Remove a function inside the host."""
        self.functions.remove_builtin(function_id)
        self.changed("functions", None)

    def add_provider(self, provider: TriggerProvider) -> None:
        """Provide a trigger type inside the host."""
        self.triggers.add_builtin_type(provider)

    def add_trigger(self, trigger: Trigger) -> None:
        """Start a trigger that no worker owns; raises TriggerRefused."""
        self.triggers.add(trigger, None)

    def remove_trigger(self, trigger_id: str) -> bool:
        """End a trigger that no worker owns; False when there is none of that id."""
        removed = self.triggers.remove(trigger_id, None)
        if removed:
            self.fanout.forget(trigger_id)
        return removed

    @property
    def in_flight(self) -> int:
        """Calls that workers are executing now."""
        return sum(len(worker.executing) for worker in self.workers.values())

    def changed(self, what: str, worker: Worker | None) -> None:
        """Tell who listens that something changed."""
        for listener in self.on_change:
            listener(what, worker)

    def close(self) -> None:
        """Every worker is gone; waiting callers are told so."""
        for worker in list(self.workers.values()):
            self.disconnect(worker)
        self.fanout.close()

    # Calls and answers.

    def _send_call(self, owner: Worker, call: Call) -> None:
        invocation_id = call.invocation_id
        if invocation_id is None or invocation_id in owner.executing:
            invocation_id = str(uuid.uuid4())
        data = call.data
        if call.caller_id is not None:
            data = stamp_caller(data, call.caller_id)
        baggage = None if call.baggage is None else with_function(call.baggage, call.function_id)
        failure = owner.execute(invocation_id, call, data, baggage)
        if failure is not None:
            call.reply(failure)

    def _invoked(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, InvokeFunction)
        assert message.data is not UNSET
        metadata = bytes(message.metadata)
        traceparent = message.traceparent
        call = Call(
            message.function_id,
            bytes(message.data),
            namespace=message.namespace,
            caller_id=worker.id,
            metadata=None if metadata == b"null" else metadata,
            traceparent=traceparent if traceparent is None or _TRACEPARENT.fullmatch(traceparent) else None,
            baggage=message.baggage,
        )
        action = message.action
        if message.invocation_id is not None and (action is None or action.type != "void"):
            call.invocation_id = message.invocation_id
            call.reply = lambda outcome: worker.answer(call, outcome)
        if action is not None and action.type == "enqueue":
            self._enqueue(worker, call, action.queue)
            return
        self.invoke(call)

    def _answered(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, InvocationResult)
        # Looked up among the calls of the sender alone: nobody answers for another worker.
        call = worker.executing.pop(message.invocation_id, None)
        if call is None:
            return
        if message.error is not None:
            call.reply(Failure(message.error.code, message.error.message, message.error.stacktrace))
            return
        value = None if message.result is UNSET else bytes(message.result)
        call.reply(Result(None if value == b"null" else value))

    def _enqueue(self, worker: Worker, call: Call, queue: str | None) -> None:
        """Hand an enqueue action to whoever provides the queue, or say who would."""
        if self.functions.lookup(ENQUEUE, None) is None:
            text = (
                f"No queue provider is installed: '{call.function_id}' was not enqueued"
                f"{'' if queue is None else f' on {queue!r}'}. Queues are served by the worker `iii-queue` "
                "of the iii engine (`iii worker add queue`), not by this host; call the function without an "
                "action, or as void."
            )
            call.reply(Failure("enqueue_error", text))
            return
        receipt = str(uuid.uuid4())
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

        self.invoke(Call(ENQUEUE, msgspec.json.encode(payload), accepted, caller_id=worker.id))

    # Registrations.

    def _register_function(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, RegisterFunction)
        if self.functions.is_reserved(message.id):
            self._reject(worker, message.id, "")
            return
        handler = _not_invokable(message.id) if message.invocation is not None else None
        function = Function(
            message.id,
            worker.namespace,
            worker,
            handler,
            message.description,
            message.request_format,
            message.response_format,
            message.metadata,
        )
        held = self.functions.add(function)
        if held is not None:
            self._reject(worker, message.id, held.owner.id if held.owner else "")
            return
        self.changed("functions", worker)

    def _reject(self, worker: Worker, function_id: str, owner_id: str) -> None:
        by = f"worker {owner_id}" if owner_id else "this host"
        logger.warning("%s may not register '%s': it belongs to %s", worker.label, function_id, by)
        worker.send(
            RegistrationRejected(
                CONFLICT, worker.namespace, owner_worker_id=owner_id, function_id=function_id
            )
        )

    def _unregister_function(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterFunction)
        if self.functions.remove(worker.namespace, message.id, worker):
            self.changed("functions", worker)

    def _register_trigger(self, worker: Worker, message: FromWorker) -> None:
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
            self.triggers.add(trigger, worker)
        except TriggerRefused as error:
            logger.warning("%s: trigger of type %s: %s", worker.label, trigger.trigger_type, error.message)
            body = ErrorBody(error.code, error.message)
            worker.send(
                TriggerRegistrationResult(trigger.id, trigger.trigger_type, trigger.function_id, body)
            )

    def _unregister_trigger(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterTrigger)
        if self.triggers.remove(message.id, worker.id):
            self.fanout.forget(message.id)

    def _register_type(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, RegisterTriggerType)
        if message.id in self.triggers.builtin_types:
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
        self.triggers.add_type(
            TriggerType(
                message.id,
                message.namespace or worker.namespace,
                worker,
                message.description,
                message.trigger_request_format,
                message.call_request_format,
            )
        )

    def _unregister_type(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, UnregisterTriggerType)
        self.triggers.remove_type(message.id, message.namespace or worker.namespace, worker)

    def _judged(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, TriggerRegistrationResult)
        if message.error is None:
            return
        trigger = self.triggers.rejected(message.id, worker)
        if trigger is None or trigger.owner_id is None:
            return
        owner = self.workers.get(trigger.owner_id)
        if owner is not None:
            owner.send(message)

    def _reattach(self, worker: Worker, message: FromWorker) -> None:
        assert isinstance(message, Reattach)
        old = self.workers.get(message.previous_worker_id)
        if old is None or old is worker or old.token != message.reattach_token:
            return
        self.disconnect(old)
        old.close(1012, "taken over by a newer connection")


def _not_invokable(function_id: str) -> Handler:
    """The function lives behind a URL, and this host calls none."""
    failure = Failure(
        "http_invocation_unsupported",
        f"Function {function_id} is registered with an HTTP invocation. This host does not call URLs; "
        "the worker `iii-http-functions` of the iii engine does.",
    )
    return lambda call: call.reply(failure)
