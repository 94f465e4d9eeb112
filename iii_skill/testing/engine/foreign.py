"""ForeignEngine: an engine that runs elsewhere, with what a test can ask of it over the worker protocol.

It was there before the test and goes on after it, so the test takes back what it changed: at the end every
key that changed while it ran is as it was at the start. Nobody else may use the engine meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import msgspec
from msgspec import Raw

from iii_skill.calls import Call
from iii_skill.engine.ids import fresh_id
from iii_skill.engine.python_functions import PythonFunctions, decoded, encoded
from iii_skill.errors import ConfigurationError, IiiSkillError
from iii_skill.testing.engine.absent import AbsentPart, not_here
from iii_skill.testing.engine.events import Events
from iii_skill.testing.engine.http import Http
from iii_skill.testing.engine.in_test import EngineInTest
from iii_skill.testing.engine.loop_thread import LoopThread
from iii_skill.testing.engine.processes import WorkerProcess
from iii_skill.testing.engine.readiness import ready
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.restartable import START_SECONDS
from iii_skill.testing.engine.settling import SETTLE_SECONDS, quiet
from iii_skill.testing.engine.state import State
from iii_skill.testing.engine.wire import Wire
from iii_skill.testing.engine.wire_state import WireState
from iii_skill.values import Change

QUIET_SECONDS = 0.5
"""Nobody sees what is in flight in an engine that runs elsewhere: nothing may have happened for so long."""
LEAVE_SECONDS = 10.0
"""The workers of the test before get so long to be gone."""
TAKE_BACK_SECONDS = 60.0
NAME = "iii-skill-test"


class _Event(msgspec.Struct):
    scope: str
    key: str
    event_type: str
    old_value: Raw = Raw(b"null")
    new_value: Raw = Raw(b"null")


class _Row(msgspec.Struct):
    function_id: str


class _Functions(msgspec.Struct):
    functions: list[_Row] = []


class _Triggers(msgspec.Struct):
    registered_triggers: list[Any] = []


class ForeignEngine(EngineInTest):
    """Used as LocalEngine; `faults`, `clock` and `calls` skip the test."""

    takes_faults = False

    def __init__(self, url: str, *, http_url: str | None, token: str | None = None) -> None:
        self.url = url
        super().__init__(Recorder())
        self._heading = f"iii engine at {url}"
        self._http_url = http_url
        self._wire = Wire(url, token=token)
        self._python = PythonFunctions()
        self._thread = LoopThread("iii-foreign-engine")
        self._opened = False
        self._first: dict[tuple[str, str], bytes | None] = {}
        """What each key that changed was before."""
        self._last: dict[tuple[str, str], int] = {}
        """A hash of what it is now; not the value: there may be many, and large ones."""
        self._exact = WireState(lambda function_id, payload: self._wire.call(function_id, payload, 30.0))
        self.state = State(self._exact, self._thread.run)
        self.http = Http(lambda: self.http_url)
        self.events = Events(self.recorder)
        self.calls: Any = AbsentPart("iii_engine.calls")
        self.faults: Any = AbsentPart("iii_engine.faults")
        self.clock: Any = AbsentPart("iii_engine.clock")

    def start(self) -> Self:
        """Connect, and hear of every change from now on."""
        self._thread.start()
        try:
            self._thread.run(self._open())
        except BaseException:
            self._thread.stop()
            raise
        return self

    def stop(self) -> None:
        """Take back what the test changed, and leave; safe to call twice."""
        if not self._opened:
            self._thread.stop()
            return
        self._opened = False
        try:
            self._thread.run(self._take_back(), within=TAKE_BACK_SECONDS)
        except (IiiSkillError, TimeoutError) as error:
            raise RuntimeError(
                f"The engine at {self.url} still holds what the test has changed, in the scopes "
                f"{', '.join(sorted({scope for scope, _ in self._first}))}: {error}"
            ) from None
        finally:
            self._thread.run(self._wire.close())
            self._thread.stop()

    def keep(self) -> None:
        """What has changed so far stays after the test."""

        async def forget() -> None:
            await quiet(self.recorder, (), seconds=QUIET_SECONDS, within=SETTLE_SECONDS)
            self._first.clear()

        self._thread.run(forget())

    @property
    def http_url(self) -> str:
        """Where HTTP clients connect."""
        if self._http_url is None:
            raise RuntimeError("the HTTP port of this engine is not known: give --iii-real-engine-http URL")
        return self._http_url

    @property
    def config(self) -> Any:
        """Nobody here chose it."""
        not_here("`iii_engine.config`")

    @property
    def environment(self) -> dict[str, str]:
        """What makes any SDK connect to this engine."""
        found = {"III_URL": self.url, "III_ENGINE_URL": self.url}
        return found if self._http_url is None else found | {"III_HTTP": self._http_url}

    def call(self, function_id: str, payload: Any = None, *, within: float = 30.0) -> Any:
        """The result of a function, as a worker that calls it gets it; InvocationError when it fails."""

        async def called() -> Any:
            data = encoded({} if payload is None else payload)
            result = await self._wire.call(function_id, data, within)
            return None if result is None else decoded(result)

        return self._thread.run(called(), within=within + START_SECONDS)

    def register_function(self, function_id: str, function: Callable[[Any], Any]) -> None:
        """Stand in for another worker: a callable, plain or `async`, on a thread of its own."""

        async def register() -> None:
            handler = self._python.handler(function)

            def recorded(call: Call) -> None:
                reply = call.reply
                seen = self.recorder.called(function_id, None, call.data, caller="the engine")

                def answered(outcome: Any) -> None:
                    self.recorder.answered(seen, outcome)
                    reply(outcome)

                call.reply = answered
                handler(call)

            self._wire.register_function(function_id, recorded)
            await self._registered(function_id)

        self._thread.run(register())

    def register_trigger(self, trigger_type: str, function_id: str, config: Any = None) -> None:
        """Call the function when `trigger_type` fires."""

        async def register() -> None:
            self._wire.register_trigger(trigger_type, function_id, config)
            await self._registered(function_id)

        self._thread.run(register())

    def settle(self, *, within: float = SETTLE_SECONDS) -> None:
        """Wait until nothing that the test can see has happened for half a second, and no worker computes."""
        __tracebackhide__ = True
        work = quiet(self.recorder, self.workers, seconds=QUIET_SECONDS, within=within)
        self._thread.run(work, within=within + START_SECONDS)

    def functions(self) -> set[str]:
        """The ids of all functions."""
        return self._thread.run(self._functions())

    def left(self, functions: set[str]) -> None:
        """The workers that had these functions were ended: wait until the engine has noticed."""

        async def gone() -> None:
            deadline = time.monotonic() + LEAVE_SECONDS
            while functions & await self._functions() and time.monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

        if functions:
            self._thread.run(gone())

    def ready(
        self,
        worker: WorkerProcess | None,
        *,
        name: str,
        before: set[str],
        functions: Sequence[str] | None = None,
        within: float = START_SECONDS,
    ) -> set[str]:
        """Wait until a worker has registered its functions; gives their ids. WorkerFailed has its output."""
        __tracebackhide__ = True
        work = ready(self, worker, name=name, before=before, functions=functions, within=within)
        return self._thread.run(work, within=within + START_SECONDS)

    # From here on: on the loop.

    async def registered(self) -> tuple[set[str], int]:
        """The ids of the functions, and the number of triggers."""
        answer = await self._wire.call("engine::registered-triggers::list", b"{}", START_SECONDS)
        triggers = msgspec.json.decode(answer or b"{}", type=_Triggers).registered_triggers
        return await self._functions(), len(triggers)

    async def _functions(self) -> set[str]:
        asked = b'{"include_internal":true}'
        answer = await self._wire.call("engine::functions::list", asked, START_SECONDS)
        return {row.function_id for row in msgspec.json.decode(answer or b"{}", type=_Functions).functions}

    async def _registered(self, function_id: str) -> None:
        # What was sent before this is done once it is answered.
        await self._wire.call("engine::functions::list", encoded({"prefix": function_id}), START_SECONDS)

    async def _open(self) -> None:
        name = f"{NAME}-{fresh_id()}"
        await self._wire.open(name)
        self._opened = True
        deadline = time.monotonic() + LEAVE_SECONDS
        while any(one.startswith(NAME) for one in await self._functions()):
            if time.monotonic() > deadline:
                self._opened = False
                await self._wire.close()
                raise ConfigurationError(
                    f"Another test uses the engine at {self.url}: run one process of pytest at a time on it."
                )
            await asyncio.sleep(0.05)
        listener = f"{name}::changed"
        self._wire.register_function(listener, self._changed)
        self._wire.register_trigger("state", listener, {})
        await self._registered(listener)

    def _changed(self, call: Call) -> None:
        with contextlib.suppress(msgspec.DecodeError):
            event = msgspec.json.decode(call.data, type=_Event)
            old = None if event.event_type == "state:created" else bytes(event.old_value)
            new = None if event.event_type == "state:deleted" else bytes(event.new_value)
            place = (event.scope, event.key)
            self._first.setdefault(place, old)
            self._last[place] = hash(new)
            self.recorder.event(Change(*place, old, new, 1))
        call.succeed(None)

    async def _take_back(self) -> None:
        """Make every key that changed as it was, once the workers of the test are gone."""
        await quiet(self.recorder, (), seconds=QUIET_SECONDS, within=SETTLE_SECONDS)
        for (scope, key), value in list(self._first.items()):
            if hash(value) == self._last[scope, key]:
                continue
            if value is None:
                await self._exact.delete(scope, key)
            else:
                await self._exact.set(scope, key, value)
