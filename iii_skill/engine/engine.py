"""Engine: who is there, and where a call goes; it knows no message of the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from iii_skill.calls import CHAIN, STOPPED, TRACE, Call, Failure, Handler, Outcome, Result
from iii_skill.engine.channels import Channels
from iii_skill.engine.fanout import DEFAULT_TIMEOUT_S, Fanout
from iii_skill.engine.functions import Function, Functions, private_call
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.trigger_table import TriggerTable
from iii_skill.engine.workers import Worker
from iii_skill.errors import InvocationError
from iii_skill.few_warnings import FewWarnings
from iii_skill.json_slices import SLICE
from iii_skill.protocol.connection import DEFAULT_NAMESPACE
from iii_skill.readable import MAX_NESTING, inspect
from iii_skill.sources import Source
from iii_skill.traces import Tracer, is_decided
from iii_skill.triggers import Subscriber, Trigger, TriggerProvider

logger = logging.getLogger(__name__)


CALL_LIFE_S = 3600.0
"""Seconds that a worker has at least for the answer to another one's call; callers give up long before."""

TIMED = 64
"""How many calls of a function there are to one whose duration is measured; a power of two."""

_UNTIMED = TIMED - 1


class Engine:
    """The router. All methods are called on the event loop; none of them blocks."""

    fanout_type: ClassVar[type[Fanout]] = Fanout

    def __init__(
        self, *, handler_timeout_s: float = DEFAULT_TIMEOUT_S, call_life_s: float = CALL_LIFE_S
    ) -> None:
        self._call_life_s = call_life_s
        self._ageing: asyncio.TimerHandle | None = None
        self.functions = Functions()
        self.functions.on_handover = self._handed_over
        self.triggers = TriggerTable()
        self.workers: dict[str, Worker] = {}
        self.fanout = self.fanout_type(self.invoke, abandon=self.abandon, timeout_s=handler_timeout_s)
        self.channels = Channels()
        self._missing = FewWarnings(logger, "functions that are not there", limit=1000)
        self.on_change: list[Callable[[str, Worker | None], None]] = []
        """Called with what changed: `functions`, `worker_connected`, `worker_metadata_updated`, …"""
        self.on_function: list[Callable[[Function], None]] = []
        """Called with every function that is there now, or is gone: `functions` knows which."""
        self.tracer: Tracer | None = None
        """Records what becomes of calls whose traces are sampled."""
        self.counting = False
        """Count the calls of each function."""
        self.timed: Callable[[Call], None] = lambda _call: None
        """While counting, given one call in TIMED before it is made."""
        self.failed: Callable[[str], None] = lambda _code: None
        """Told the code of every call that failed, by whoever made it."""
        self.sources: dict[str, Source] = {}
        """The functions inside the host that only the host calls, by id."""
        self.watches: dict[str, Callable[[Function, Call], None]] = {}
        """By id of an observed function: what is done with a call before it is made."""
        self.actions: dict[type, Callable[[Worker, Any], None]] = {}
        """What the rooms above do with messages of workers, by type of message."""
        self.through: Callable[[Worker, str, Call], None] = _no_observers
        """Makes a call of a worker through an observer of that id."""
        self.observer_count: Callable[[Function], int] = lambda _function: 0
        """How many observe a function."""
        self.enter_observer: Callable[[Subscriber, Call], Callable[[], None] | Failure] = _no_observer
        """Makes a call one of an observer; gives what ends it, or why it is not made."""

    # What drivers call.

    def connect(self, worker: Worker) -> None:
        """A worker is there."""
        self.workers[worker.id] = worker
        worker.failed = self.failed
        if self._ageing is None:
            self._ageing = asyncio.get_running_loop().call_later(self._call_life_s, self._age)
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
        for other in self.workers.values():
            # Nobody waits any more for what it had called.
            other.drop_calls_of(worker.id)
        for function in functions:
            self.function_changed(function)
        if functions:
            self.changed("functions", worker)
        self.changed("worker_disconnected", worker)

    def _age(self) -> None:
        """Calls that nobody has answered for once or twice their life end, or they would be kept for ever."""
        for worker in list(self.workers.values()):
            worker.end_aged_calls()
        self._ageing = None
        if self.workers:
            self._ageing = asyncio.get_running_loop().call_later(self._call_life_s, self._age)

    def _handed_over(self, function: Function) -> None:
        """A function that was refused belongs to whoever waited for it now."""
        if function.owner is not None:
            logger.warning(
                "'%s' is served by %s now, which had waited for it", function.id, function.owner.label
            )
        self.function_changed(function)
        self.changed("functions", function.owner)

    # What everyone inside the host calls.

    def invoke(self, call: Call) -> None:
        """Route a call; `call.reply` is called exactly once, at once or later, without a time-out."""
        tracer = self.tracer
        if tracer is not None:
            trace = call.traceparent
            if trace is None:
                if tracer.left:
                    # As `begins` says it, without a call.
                    tracer.left -= 1
                    taken = False
                else:
                    taken = tracer.begins()
            else:
                # The first digit alone rules most of the others out.
                taken = trace[21] <= tracer.first_digit and tracer.takes(trace)
            if taken and not is_decided(call):
                tracer.route(call, self._invoke_traced)
                return
        function = self.functions.builtins.get(call.function_id)
        if function is None or call.namespace is not None:
            found = self.functions.find(call.function_id, call.namespace)
            # `type` says it at once; to ask `isinstance` for a Struct takes its time where the answer is no.
            if type(found) is Failure:
                self._not_found(call, found)
                return
            function = found
        if self.counting:
            calls = function.calls
            calls[0] = number = calls[0] + 1
            if not number & _UNTIMED:
                self.timed(call)
        if self.watches:
            watch = self.watches.get(function.id)
            if watch is not None:
                watch(function, call)
        handler = function.handler
        if handler is None:
            if function.owner is not None:
                function.owner.execute(call)
            return
        try:
            handler(call)
        except Exception as error:
            extra = {"traceparent": call.traceparent}
            logger.exception("function %s failed", call.function_id, extra=extra)
            call.reply(Failure("internal_error", f"{call.function_id} failed inside the host: {error}"))

    def _invoke_traced(self, call: Call) -> None:
        Engine.invoke(self, call)

    def _not_found(self, call: Call, failure: Failure) -> None:
        """Tell the caller, and the log once: nobody hears of a void call, and some SDKs hide the text."""
        worker = None if call.caller_id is None else self.workers.get(call.caller_id)
        caller = "a caller inside the host" if worker is None else worker.label
        subject = f"{caller} {call.function_id}"
        text = "%s called a function that is not there: %s"
        self._missing.warn(subject, text, caller, failure.message, traceparent=call.traceparent)
        call.reply(failure)

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more: forget the call, or a worker that never answers keeps it."""
        if self.tracer is not None:
            self.tracer.abandoned(call)
        if call.invocation_id is None:
            return
        for worker in self.workers.values():
            if worker.executing.get(call.invocation_id) is call:
                del worker.executing[call.invocation_id]
                return

    async def trigger(
        self,
        function_id: str,
        data: bytes,
        *,
        namespace: str | None = None,
        caller_id: str | None = None,
        metadata: bytes | None = None,
        timeout: float | None = None,
        caller: bytes | None = None,
        depth: int = 0,
    ) -> bytes | None:
        """The encoded result (None: no `result`); raises InvocationError, code TIMEOUT after `timeout` s."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        call = Call(
            function_id, data, settle, namespace, caller_id, metadata, invocation_id=fresh_id(), caller=caller
        )
        call.depth, call.chain, call.traceparent = depth, CHAIN.get(), TRACE.get()
        if len(data) > SLICE:
            found = await inspect(data, levels=MAX_NESTING + 1)
            if found.fault is not None:
                raise InvocationError(found.fault, code="VALUE_REFUSED")
            call.levels = found.levels
        self.invoke(call)
        try:
            if future.done():
                # Give up the turn all the same: calls in a loop must not hold back the handlers of events.
                await asyncio.sleep(0)
                outcome = future.result()
            else:
                outcome = await asyncio.wait_for(future, timeout)
        except asyncio.CancelledError:
            self.abandon(call)
            raise
        except TimeoutError:
            self.abandon(call)
            self.failed("TIMEOUT")
            message = f"Invocation of '{function_id}' timed out after {timeout} s; its outcome is unknown."
            raise InvocationError(message, code="TIMEOUT") from None
        if type(outcome) is Result:
            return outcome.value
        assert isinstance(outcome, Failure)
        self.failed(outcome.code)
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
        args_format: object = None,
        private: bool = False,
    ) -> None:
        """Add a function inside the host; it answers in every namespace, and no worker may claim its id."""
        function = Function(
            function_id,
            DEFAULT_NAMESPACE,
            None,
            handler,
            description,
            request_schema,
            response_schema,
            metadata,
            worker_name,
            args_format=args_format,
            private=private,
        )
        self.functions.add_builtin(function)
        self.function_changed(function)
        self.changed("functions", None)

    def remove_function(self, function_id: str) -> None:
        """Remove a function inside the host."""
        function = self.functions.builtins.get(function_id)
        if function is None:
            return
        self.functions.remove_builtin(function_id)
        self.function_changed(function)
        self.changed("functions", None)

    def add_source(self, source: Source) -> None:
        """Offer a function that only the host calls."""
        self.sources[source.function_id] = source
        self.add_function(
            source.function_id,
            _private,
            description=source.description,
            request_schema=source.event_schema,
            response_schema=source.event_schema,
            metadata={"internal": True},
            worker_name=source.worker_name,
            args_format=source.args_format,
            private=True,
        )

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

    @property
    def busy(self) -> bool:
        """True while workers execute calls, or events are out or wait."""
        return bool(self.in_flight or self.fanout.busy)

    def function_changed(self, function: Function) -> None:
        """Tell who listens that a function is there, or is gone."""
        for listener in self.on_function:
            listener(function)

    def changed(self, what: str, worker: Worker | None) -> None:
        """Tell who listens that something changed."""
        for listener in self.on_change:
            listener(what, worker)

    def close(self) -> None:
        """Every worker is gone; waiting callers are told so."""
        for worker in list(self.workers.values()):
            self.disconnect(worker)
        if self._ageing is not None:
            self._ageing.cancel()
            self._ageing = None
        self.fanout.close()


def _no_observers(_worker: Worker, observer_id: str, call: Call) -> None:
    call.reply(Failure("OBSERVER_NOT_FOUND", f"There is no observer {observer_id}."))


def _private(call: Call) -> None:
    call.reply(private_call(call.function_id, "this host"))


def _no_observer(_subscriber: Subscriber, _call: Call) -> Failure:
    return Failure("OBSERVER_NOT_FOUND", "There are no observers here.")
