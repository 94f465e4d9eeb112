"""WatchedEngine: an engine that records every call and lets faults strike; WatchedHost has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from iii_skill.adapter import StateAdapter, settled
from iii_skill.calls import Call, Outcome, result_of
from iii_skill.config import Config, StateConfig
from iii_skill.engine.engine import Engine
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.workers import RESTART as RECONNECT
from iii_skill.engine.workers import Worker
from iii_skill.host import Host
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.asked import Asked
from iii_skill.testing.engine.faults import (
    DELAY,
    DISK_FULL,
    DROP,
    FAIL,
    LOSE,
    RESTART,
    SLOW_STORE,
    Fault,
    FaultTable,
)
from iii_skill.testing.engine.recorder import RecordedCall, Recorder
from iii_skill.testing.engine.store_faults import StoreFaults
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
        self.store_faults = StoreFaults()
        self.asked = Asked()
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

    async def unseen(self, function_id: str, payload: bytes, *, timeout: float = 30.0) -> bytes | None:
        """The encoded result of a call that is neither recorded nor struck."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def answered(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        Engine.invoke(self, Call(function_id, payload, answered, invocation_id=fresh_id()))
        return result_of(await asyncio.wait_for(future, timeout))

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
        elif fault.kind in (DISK_FULL, SLOW_STORE):
            self._heard(call, recorded)
            self.store_faults.striking = fault
            try:
                super().invoke(call)
            finally:
                # A call that is refused never comes to the store.
                self.store_faults.striking = None
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
        self.kept: Contents = {}
        """After `close`: all that a store held which forgets it then."""
        self._contents = contents or {}

    async def trigger_exact(self, function_id: str, payload: bytes, *, timeout: float) -> bytes | None:
        """The same as `trigger`, with encoded JSON in and out."""
        return await self.engine.trigger(
            function_id, payload, caller_id=self.session_id, timeout=timeout, caller=self._as_caller
        )

    def _adapter_type(self, config: StateConfig) -> type[StateAdapter]:
        kind = super()._adapter_type(config)
        struck = self.watched.store_faults.around(self.watched.asked.around(kind))
        if kind.durability is not Durability.NONE or kind.shared:
            return struck
        # The methods of `kind`: whatever fault struck the store, this is not about it.
        contents = self._contents

        async def open_filled(adapter: StateAdapter, settings: Any) -> None:
            await kind.open(adapter, settings)
            for scope, pairs in contents.items():
                for key, value in pairs:
                    await settled(kind.set(adapter, scope, key, value))

        async def close_kept(adapter: StateAdapter) -> None:
            # Not before: calls that are under way when the host ends are finished and answered.
            self.kept = self.kept or {
                scope: list(await settled(kind.list(adapter, scope)))
                for scope in await settled(kind.scopes(adapter))
            }
            await kind.close(adapter)

        methods = {"open": open_filled, "close": close_kept}
        return cast(type[StateAdapter], type(kind.__name__, (struck,), methods))
