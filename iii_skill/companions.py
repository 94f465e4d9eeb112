"""The companions that run in one host: each with the engine's doors and a private store over the adapter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, Failure, Handler, Outcome, Reply, Result
from iii_skill.clock import Clock
from iii_skill.companion import Companion, PrivateStore
from iii_skill.config import Config, adapter_settings
from iii_skill.engine.engine import Engine
from iii_skill.engine.python_functions import PythonFunctions, decoded, encoded
from iii_skill.engine.workers import Worker
from iii_skill.errors import ConfigurationError, InvocationError
from iii_skill.sources import Source
from iii_skill.triggers import Subscriber, Trigger, TriggerProvider
from iii_skill.websockets import WebSocketPort

logger = logging.getLogger(__name__)


class EngineDoor:
    """What one companion reaches of the engine; a CompanionHost by structure."""

    def __init__(
        self,
        engine: Engine,
        python: PythonFunctions,
        *,
        name: str,
        store: PrivateStore,
        clock: Clock,
        ports: list[WebSocketPort],
    ) -> None:
        self._ports = ports
        self._engine = engine
        self._python = python
        self._name = name
        self.store = store
        self.clock = clock
        self.log = logging.getLogger(f"iii_skill.companion.{name}")

    def add_function(
        self,
        function_id: str,
        function: Callable[[Any], Any],
        *,
        description: str | None = None,
        request_schema: Any = None,
        response_schema: Any = None,
    ) -> None:
        """Offer a Python callable."""
        self.add_handler(
            function_id,
            self._python.handler(function),
            description=description,
            request_schema=request_schema,
            response_schema=response_schema,
        )

    def add_handler(
        self,
        function_id: str,
        handler: Handler,
        *,
        description: str | None = None,
        request_schema: Any = None,
        response_schema: Any = None,
    ) -> None:
        """Offer a function that takes the call with its payload encoded."""
        self._engine.add_function(
            function_id,
            handler,
            description=description,
            request_schema=request_schema,
            response_schema=response_schema,
            worker_name=self._name,
        )

    def remove_function(self, function_id: str) -> None:
        """Take a function back."""
        self._engine.remove_function(function_id)

    def add_trigger_type(self, provider: TriggerProvider) -> None:
        """Provide a trigger type."""
        self._engine.add_provider(provider)

    def add_source(self, source: Source) -> None:
        """Offer a private function that observers listen to."""
        self._engine.add_source(source)

    def enter(self, observer: Subscriber, call: Call) -> Callable[[], None] | Failure:
        """Make a call of the target one of an observer."""
        return self._engine.enter_observer(observer, call)

    def fire(
        self, trigger: Trigger, payload: bytes, *, order: Hashable = None, condition: str | None = None
    ) -> None:
        """Call the trigger's function after every earlier event of the same trigger and `order`."""
        self._engine.fanout.fire(trigger, order, payload, condition)

    async def deliver(
        self, trigger: Trigger, payload: bytes, *, condition: str | None = None, timeout: float | None = 30.0
    ) -> Outcome | None:
        """Call the trigger's function with an event and its metadata, after its condition."""
        call = self._engine.trigger
        try:
            async with asyncio.timeout(timeout):
                if condition is not None:
                    verdict = await call(condition, payload, namespace=trigger.namespace)
                    if verdict == b"false":
                        return None
                result = await call(
                    trigger.function_id, payload, namespace=trigger.namespace, metadata=trigger.metadata
                )
        except TimeoutError:
            return Failure("TIMEOUT", f"no answer within {timeout:g} s")
        except InvocationError as error:
            return Failure(error.code, error.message, error.stacktrace)
        return Result(result)

    def invoke(self, call: Call) -> None:
        """Route a call."""
        if self._engine.counting:
            call.reply = partial(_counted, self._engine, call.reply)
        self._engine.invoke(call)

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more."""
        self._engine.abandon(call)

    async def call(
        self,
        function_id: str,
        payload: Any = None,
        *,
        namespace: str | None = None,
        metadata: Any = None,
        timeout: float | None = 30.0,
    ) -> Any:
        """The decoded result of a function."""
        result = await self._engine.trigger(
            function_id,
            encoded({} if payload is None else payload),
            namespace=namespace,
            metadata=None if metadata is None else encoded(metadata),
            timeout=timeout,
        )
        return None if result is None else decoded(result)

    def serves(self, function_id: str, namespace: str | None = None) -> bool:
        """True when a call of the function would find one."""
        return self._engine.functions.lookup(function_id, namespace) is not None

    def serve_websocket(self, port: WebSocketPort) -> None:
        """Open a port when the host serves."""
        self._ports.append(port)

    def on_functions(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever functions were registered or removed."""

        def changed(what: str, _worker: Worker | None) -> None:
            if what == "functions":
                listener()

        self._engine.on_change.append(changed)


class Companions:
    """Starts, watches and stops the companions of one host."""

    def __init__(self, engine: Engine, python: PythonFunctions, clock: Clock) -> None:
        self._engine = engine
        self._python = python
        self._clock = clock
        self._answers = AdapterAnswers()
        self.running: dict[str, Companion] = {}
        self._stores: dict[str, PrivateStore] = {}
        self.ports: list[WebSocketPort] = []
        """The ports that they want open while the host serves."""

    async def start(self, chosen: Mapping[type[Companion], msgspec.Struct], adapter: StateAdapter) -> None:
        """Start each with its settings; the first that refuses ends it, and those before it are stopped."""
        for kind, settings in chosen.items():
            companion = kind()
            store = self._stores[kind.name] = PrivateStore(adapter, kind.name, self._answers)
            door = EngineDoor(
                self._engine,
                self._python,
                name=kind.name,
                store=store,
                clock=self._clock,
                ports=self.ports,
            )
            self.running[kind.name] = companion
            await companion.start(door, settings)

    def ready(self) -> dict[str, dict[str, Any]]:
        """What the line of readiness says of each."""
        return {name: companion.ready() for name, companion in self.running.items()}

    async def stop(self, deadline: float) -> list[str]:
        """Stop all at once; who is not done at `deadline` (the loop's time) is named and left behind.

        Gives what the store still owes those.
        """
        stopping = {asyncio.ensure_future(companion.stop()): name for name, companion in self.running.items()}
        if not stopping:
            return []
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        done, late = await asyncio.wait(stopping, timeout=left)
        owed: list[str] = []
        for task in late:
            if self._stores[stopping[task]].reading:
                owed.append(f"what {stopping[task]} has asked the store for")
            task.cancel()
            logger.warning("%s did not stop in time; the host goes on without it", stopping[task])
        for task in done:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                logger.error("%s failed while it stopped", stopping[task], exc_info=error)
        self.running.clear()
        return owed


def _counted(engine: Engine, reply: Reply, outcome: Outcome) -> None:
    if type(outcome) is Failure:
        engine.failed(outcome.code)
    reply(outcome)


class Chosen(NamedTuple):
    """The companions that a configuration asks for, with their settings, and names that nobody here is."""

    settings: dict[type[Companion], msgspec.Struct]
    unserved: list[str]


def no_companions(config: Config) -> bool:
    """Whether it asks for none, so that none need be loaded."""
    return config.companions is not None and not (config.companions or config.without)


def chosen_companions(config: Config, installed: Mapping[str, type[Companion]]) -> Chosen:
    """Those that it lists, or those that are on without a list; ConfigurationError for what cannot be."""
    by_name = {name: kind for kind in installed.values() for name in (kind.name, *kind.aliases)}
    off = set()
    for name in config.without:
        if name not in by_name:
            known = ", ".join(sorted(installed)) or "none"
            raise ConfigurationError(f"There is no companion '{name}' to leave out. Installed: {known}.")
        off.add(by_name[name])
    chosen = Chosen({}, [])
    if config.companions is None:
        for kind in installed.values():
            if kind.on_by_default and kind not in off:
                chosen.settings[kind] = kind.config_type()
    for section in config.companions or ():
        found = by_name.get(section.name)
        if found is None:
            chosen.unserved.append(section.given or section.name)
        elif found in chosen.settings:
            raise ConfigurationError(f"{section.where}: '{found.name}' is listed twice; it runs once.")
        elif found not in off:
            chosen.settings[found] = adapter_settings(found.config_type, section.config, where=section.where)
    return chosen
