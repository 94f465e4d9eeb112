"""WatchedEngine: an engine that records every call and lets faults strike; WatchedHost has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from iii_skill.adapter import StateAdapter, settled
from iii_skill.calls import Call, Failure, Outcome
from iii_skill.config import Config, StateConfig
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.python_functions import decoded, encoded
from iii_skill.engine.workers import RESTART as RECONNECT
from iii_skill.engine.workers import Worker
from iii_skill.errors import InvocationError
from iii_skill.host import Host
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.faults import DELAY, DROP, FAIL, LOSE, RESTART, Fault, FaultTable
from iii_skill.testing.engine.recorder import RecordedCall, Recorder
from iii_skill.values import Durability

Contents = Mapping[str, Sequence[tuple[str, bytes]]]


class WatchedEngine(Engine):
    """Every call passes `invoke`, whoever makes it: there it is recorded, and there faults strike."""

    def __init__(self, recorder: Recorder, faults: FaultTable, *, restart: Callable[[], object]) -> None:
        super().__init__()
        self._late: set[asyncio.TimerHandle] = set()
        self._recorder = recorder
        self._faults = faults
        self._restart = restart
        self.on_change.append(self._note)

    def invoke(self, call: Call) -> None:
        """Route a call, unless a fault has it."""
        worker = None if call.caller_id is None else self.workers.get(call.caller_id)
        recorded = self._recorder.called(
            call.function_id,
            call.namespace,
            call.payload(),
            caller="the engine" if call.caller_id is None else "the test" if worker is None else worker.label,
            caller_id=call.caller_id,
            invocation_id=call.invocation_id,
        )
        fault = self._faults.striking(call.function_id)
        if fault is None:
            self._heard(call, recorded)
            super().invoke(call)
        else:
            recorded.fault = str(fault)
            self._struck(call, recorded, fault)

    async def unseen(self, function_id: str, payload: Any, *, timeout: float = 30.0) -> Any:
        """The result of a call that is neither recorded nor struck."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def answered(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        Engine.invoke(self, Call(function_id, encoded(payload), answered, invocation_id=fresh_id()))
        outcome = await asyncio.wait_for(future, timeout)
        if isinstance(outcome, Failure):
            raise InvocationError(outcome.message, code=outcome.code, stacktrace=outcome.stacktrace)
        return None if outcome.value is None else decoded(outcome.value)

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more."""
        super().abandon(call)
        if call.invocation_id is not None:
            self._recorder.gave_up(lambda one: one.invocation_id == call.invocation_id)

    def disconnect(self, worker: Worker) -> None:
        """A worker is gone: nobody waits for what it had called."""
        super().disconnect(worker)
        self._recorder.gave_up(lambda one: one.caller_id == worker.id)

    def _heard(self, call: Call, recorded: RecordedCall) -> None:
        """Record the answer on its way to the caller."""
        call.reply = _Recorded(self._recorder, recorded, call.reply)

    def _struck(self, call: Call, recorded: RecordedCall, fault: Fault) -> None:
        reply = call.reply
        if fault.kind == FAIL:
            assert fault.failure is not None
            self._heard(call, recorded)
            call.reply(fault.failure)
        elif fault.kind == DELAY:
            self._heard(call, recorded)
            self._later(fault.seconds, call)
        elif fault.kind == LOSE:

            def lost(_outcome: Outcome) -> None:
                if fault.failure is not None:
                    reply(fault.failure)

            call.reply = _Recorded(self._recorder, recorded, lost)
            super().invoke(call)
        elif fault.kind == DROP:
            victim = self._worker_of(call)

            def dropped(_outcome: Outcome) -> None:
                if victim is not None:
                    victim.close(RECONNECT, "the connection breaks on purpose")

            call.reply = _Recorded(self._recorder, recorded, dropped)
            super().invoke(call)
        else:
            assert fault.kind == RESTART

            def restarted(_outcome: Outcome) -> None:
                self._restart()

            call.reply = _Recorded(self._recorder, recorded, restarted)
            super().invoke(call)

    def _later(self, seconds: float, call: Call) -> None:
        def due() -> None:
            self._late.discard(handle)
            Engine.invoke(self, call)

        handle = asyncio.get_running_loop().call_later(seconds, due)
        self._late.add(handle)

    def close(self) -> None:
        """Every worker is gone; delayed calls are not made any more."""
        for handle in self._late:
            handle.cancel()
        self._late.clear()
        super().close()

    def _worker_of(self, call: Call) -> Worker | None:
        """Who called; for an HTTP request or an event, who executes it."""
        if call.caller_id is not None and call.caller_id in self.workers:
            return self.workers[call.caller_id]
        function = self.functions.lookup(call.function_id, call.namespace)
        return None if function is None else function.owner

    def _note(self, what: str, worker: Worker | None) -> None:
        if worker is not None and what in ("worker_connected", "worker_disconnected"):
            self._recorder.note(f"{worker.label}: {what.removeprefix('worker_')}")


class _Recorded:
    """The reply of a call that is recorded."""

    __slots__ = ("call", "recorder", "reply")

    def __init__(self, recorder: Recorder, call: RecordedCall, reply: Callable[[Outcome], None]) -> None:
        self.recorder = recorder
        self.call = call
        self.reply = reply

    def __call__(self, outcome: Outcome) -> None:
        self.recorder.answered(self.call, outcome)
        self.reply(outcome)


class WatchedHost(Host):
    """A host with a watched engine. What is not durable begins with `contents`, as if it had been kept."""

    def __init__(
        self, config: Config, *, plugins: Plugins, engine: WatchedEngine, contents: Contents | None = None
    ) -> None:
        super().__init__(config, plugins=plugins, engine=engine)
        self.watched = engine
        self._contents = contents or {}

    async def contents(self) -> Contents:
        """All that the store holds, when it would forget that at its end; else nothing."""
        adapter = self.adapter
        if adapter is None or adapter.durability is not Durability.NONE or adapter.shared:
            return {}
        return {scope: list(await settled(adapter.list(scope))) for scope in await settled(adapter.scopes())}

    def _adapter_type(self, config: StateConfig) -> type[StateAdapter]:
        kind = super()._adapter_type(config)
        contents = self._contents
        if not contents:
            return kind

        async def open_filled(adapter: StateAdapter, settings: Any) -> None:
            await kind.open(adapter, settings)
            for scope, pairs in contents.items():
                for key, value in pairs:
                    await settled(adapter.set(scope, key, value))

        return cast(type[StateAdapter], type(kind.__name__, (kind,), {"open": open_filled}))
