"""Host: composes plugins, adapter, state worker and engine; in process, or over sockets with `serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from iii_skill.adapter import StateAdapter
from iii_skill.clock import Clock
from iii_skill.companions import Companions, chosen_companions, no_companions
from iii_skill.config import Config, StateConfig
from iii_skill.configuration.entries import Configurations
from iii_skill.configuration.placeholders import Exposed
from iii_skill.engine.engine import Engine
from iii_skill.engine.python_functions import DEPTH, PythonFunctions, decoded, encoded
from iii_skill.errors import ConfigurationError, StorageFailed
from iii_skill.http.provider import HttpTriggers
from iii_skill.http.source import HttpSource
from iii_skill.introspection.functions import add_engine_functions
from iii_skill.observers.hosted import HostedObserver
from iii_skill.observers.messages import ObserverMessages, read_observe
from iii_skill.observers.table import Observers
from iii_skill.opening import chosen_adapter, open_configured
from iii_skill.plugins import Plugins, load_plugins
from iii_skill.state.closing import close_state
from iii_skill.state.settings import LiveSettings, StateSettings
from iii_skill.state.worker import StateWorker
from iii_skill.traces import Tracer
from iii_skill.triggers import Trigger
from iii_skill.wiring import add_configuration, add_state

if TYPE_CHECKING:
    from iii_skill.console.port import ConsoleServer
    from iii_skill.metrics.readings import Readings
    from iii_skill.server.ports import Servers
    from iii_skill.server.telemetry import Collector

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 30.0


class Host:
    """A state host. Make it with `open_host`; `serve` opens the sockets, nothing before does."""

    def __init__(
        self,
        config: Config,
        *,
        plugins: Plugins | None = None,
        engine: Engine | None = None,
        watched: bool = False,
    ) -> None:
        """`watched`: count calls and events from the start, for `serve(metrics_port=...)`."""
        self.config = config
        self.plugins = plugins if plugins is not None else load_plugins()
        self.engine = engine if engine is not None else _counting_engine() if watched else Engine()
        self.observers = Observers(self.engine)
        self.session_id = str(uuid.uuid4())
        """The caller id of `trigger`: stable for the life of the host."""
        self._as_caller = encoded({"worker_id": self.session_id, "worker_name": "iii-skill"})
        self.failed: asyncio.Future[StorageFailed] = asyncio.get_running_loop().create_future()
        """Done when the store failed for good: the process must end with an error."""
        self.adapter: StateAdapter | None = None
        self.state: StateWorker | None = None
        self.left: list[str] = []
        """What `close` did not see the end of; it may keep threads, and so the process, alive."""
        self.http_triggers = HttpTriggers()
        self.clock = Clock()
        self._python = PythonFunctions()
        self.companions = Companions(self.engine, self._python, self.clock)
        self._memory: StateAdapter | None = None
        self.unserved: list[str] = []
        """Workers that the configuration lists and nobody here is."""
        self._servers: Servers | None = None
        self._console: ConsoleServer | None = None
        self._configurations: Configurations | None = None
        self._observing: ObserverMessages | None = None
        self._closed = False

    async def open(self) -> None:
        """Open the adapter and register the host's functions; StoreRefused and PluginError say what to do."""
        add_engine_functions(self.engine, self.observers)
        if self.config.http is not None:
            self.engine.add_provider(self.http_triggers)
            self.engine.add_source(HttpSource(self.http_triggers, self.observers.delivery))
        try:
            exposed = Exposed(os.environ, self.config.exposed_env)
            configurations = self._configurations = add_configuration(self.engine, exposed)
            self._observing = ObserverMessages(self.engine, self.observers, configurations.schemas)
            if self.config.state is not None:
                await self._open_state(self.config.state, configurations)
            await self._start_companions()
            self._add_plugin_functions()
        except BaseException:
            await self.close()
            raise
        for broken in self.plugins.broken:
            logger.warning("Plugin %s is left out: %s", broken.source, broken.reason)

    async def trigger(
        self,
        function_id: str,
        payload: Any = None,
        *,
        namespace: str | None = None,
        metadata: Any = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> Any:
        """The function's result (None also when there is none); raises InvocationError with the wire's code.

        `payload` is anything that JSON can say (None: `{}`), `timeout` seconds.
        """
        data = encoded({} if payload is None else payload)
        result = await self.engine.trigger(
            function_id,
            data,
            namespace=namespace,
            caller_id=self.session_id,
            metadata=None if metadata is None else encoded(metadata),
            timeout=timeout,
            caller=self._as_caller,
            depth=DEPTH.get(),
        )
        return None if result is None else decoded(result)

    def register_function(
        self,
        function_id: str,
        function: Callable[[Any], Any],
        *,
        description: str | None = None,
        metadata: Any = None,
    ) -> None:
        """Offer a Python callable, plain or `async`, that takes the payload and returns the result."""
        handler = self._python.handler(function)
        self.engine.add_function(function_id, handler, description=description, metadata=metadata)

    def unregister_function(self, function_id: str) -> None:
        """Take a function back."""
        self.engine.remove_function(function_id)

    def register_trigger(
        self, trigger_type: str, function_id: str, config: Any = None, *, metadata: Any = None
    ) -> str:
        """Call the function when `trigger_type` fires; the id of the trigger. Raises TriggerRefused."""
        trigger = Trigger(
            str(uuid.uuid4()),
            trigger_type,
            function_id,
            encoded(config),
            None if metadata is None else encoded(metadata),
        )
        self.engine.add_trigger(trigger)
        return trigger.id

    def unregister_trigger(self, trigger_id: str) -> bool:
        """End a trigger of `register_trigger`; False when there is none of that id."""
        return self.engine.remove_trigger(trigger_id)

    async def observe(
        self,
        source: str,
        target: str,
        *,
        args: Mapping[str, Any] | None = None,
        filters: Mapping[str, Any] | None = None,
        capture: Sequence[str] | None = None,
        on: str | None = None,
        deliver: str | None = None,
        metadata: Any = None,
        max_fires: int | None = None,
        expires_in_ms: int | None = None,
        max_in_flight: int | None = None,
        source_namespace: str | None = None,
        target_namespace: str | None = None,
    ) -> HostedObserver:
        """Call `target` whenever `source` was called, as `iii.observe` of SDK 0.25 and later does.

        `filters` look at `input`, `output`, `error`, `caller` and `metadata` of the call; `capture` chooses
        the parts that the target gets, `deliver` an envelope, the bare input or output; `on` is `success`,
        `error` or `complete`. Raises CallerError with the code of the refusal.
        """
        if self._observing is None:
            raise ConfigurationError("The host is not open: use it inside `async with open_host(...)`.")
        asked = {
            "id": str(uuid.uuid4()),
            "source": {
                "function_id": source,
                "namespace": source_namespace,
                "args": args,
                "filters": filters,
                "capture": capture,
                "on": on,
                "deliver": deliver,
            },
            "target": {"function_id": target, "namespace": target_namespace},
            "metadata": metadata,
            "max_fires": max_fires,
            "expires_in_ms": expires_in_ms,
            "max_in_flight": max_in_flight,
        }
        taken = await self._observing.observe(read_observe(encoded({"type": "observe", **asked})))
        return HostedObserver(self.observers, taken.observer, taken.warnings)

    async def serve(
        self,
        *,
        port: int | None = None,
        http_port: int | None = None,
        address: str | None = None,
        allowed_hosts: Sequence[str] = (),
        token: str | None = None,
        no_auth: bool = False,
        metrics_port: int | None = None,
        collector: Collector | None = None,
    ) -> Servers:
        """Open the worker port and the HTTP port (0: any free one); `.ws_url` and `.http_url` name them.

        `allowed_hosts` are names beyond loopback by which clients may call it. `metrics_port` opens a port
        for those who watch a `watched` host; `.metrics_url` names it. The telemetry of workers goes to
        `collector`, if there is one.
        """
        if self._closed:
            raise ConfigurationError("This host is closed and opens no ports; open another one.")
        # Late: a host without sockets needs no server libraries.
        from iii_skill.server.ports import Servers
        from iii_skill.server.telemetry import Forwarder

        if self._servers is None:
            forwarder = None if collector is None else Forwarder(collector)
            if collector is not None and forwarder is not None and collector.sampler is not None:
                self.engine.tracer = Tracer(collector.sampler, forwarder.take, service=collector.service)
            servers = Servers(
                self.config,
                self.engine,
                self.http_triggers,
                port=port,
                http_port=http_port,
                address=address,
                allowed_hosts=allowed_hosts,
                token=token,
                no_auth=no_auth,
                beside=self.companions.ports,
                readings=None if metrics_port is None else self._readings(),
                metrics_port=metrics_port,
                forwarder=forwarder,
            )
            await servers.start()
            self._servers = servers
        return self._servers

    async def serve_console(self, port: int) -> str:
        """Open the console on loopback (0: any free port); the address to open, good until the host ends."""
        # Late: a host without one needs none of it.
        from iii_skill.console.port import ConsoleServer
        from iii_skill.console.source import EngineSource

        if self._closed:
            raise ConfigurationError("This host is closed and opens no ports; open another one.")
        if self._console is None:
            label = "no state" if self.adapter is None else f"state in {self.adapter.name}"
            if self._servers is not None:
                label = f"{self._servers.ws_url}, {label}"
            console = ConsoleServer(EngineSource(self.engine, label=label, session_id=self.session_id))
            await console.start(port)
            self._console = console
        return self._console.url

    async def close(self, *, grace_s: float = 2.0) -> None:
        """Stop accepting, finish what is in flight up to `grace_s` seconds, close store and sockets."""
        if self._closed:
            return
        self._closed = True
        deadline = asyncio.get_running_loop().time() + grace_s
        if self._console is not None:
            self._console.stop()
        if self._servers is not None:
            await self._servers.drain(grace_s)
        owed = await self.companions.stop(deadline)
        await self._finish(deadline)
        if self._observing is not None:
            await self._observing.close()
        if self._configurations is not None:
            await self._configurations.close()
        self.left = [*await close_state(self.state, self.adapter, deadline=deadline), *owed]
        if self.left:
            logger.error("ended without waiting any longer for %s", " and ".join(self.left))
        if self._memory is not None:
            await self._memory.close()
        if self._servers is not None:
            await self._servers.stop()
        self.engine.close()
        self.observers.close()

    def _readings(self) -> Readings:
        """What those who watch the host may read."""
        from iii_skill.metrics.counting import CountingEngine
        from iii_skill.metrics.readings import Readings

        if not isinstance(self.engine, CountingEngine):
            raise ConfigurationError("This host counts nothing: make it with `watched=True`.")
        return Readings(
            self.engine,
            adapter=self.adapter,
            companions=self.companions.running,
            stopping=self._why_ending,
        )

    def _why_ending(self) -> str | None:
        if self.failed.done():
            return f"The store failed: {self.failed.result().message}"
        return "The host is stopping." if self._closed else None

    async def _finish(self, deadline: float) -> None:
        """Let calls be answered and events of acknowledged writes be handled, until the loop's time is up."""
        loop = asyncio.get_running_loop()
        while (self.engine.busy or self._python.running) and loop.time() < deadline:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.005)

    async def _open_state(self, config: StateConfig, configurations: Configurations) -> None:
        adapter = self.adapter = await open_configured(
            self._adapter_type(config), config, on_failure=self._store_failed, clock=self.clock
        )
        live = StateSettings(triggers_enabled=config.triggers_enabled, max_value_bytes=config.max_value_bytes)
        self.state = add_state(
            self.engine,
            adapter,
            LiveSettings(live),
            configurations,
            engine_functions_only=self.config.engine_functions_only,
        )
        await self.state.start()

    async def _start_companions(self) -> None:
        """Start those that the configuration asks for, over the store of the host."""
        if no_companions(self.config):
            return  # None is loaded.
        chosen = chosen_companions(self.config, self.plugins.companions())
        self.unserved += chosen.unserved
        if not chosen.settings:
            return
        adapter = self.adapter
        if adapter is None:
            # A host without state: what companions must remember lives as long as the process.
            adapter = self._memory = self.plugins.adapter("memory")()
            await adapter.open(adapter.config_type())
        await self.companions.start(chosen.settings, adapter)

    def _adapter_type(self, config: StateConfig) -> type[StateAdapter]:
        return chosen_adapter(self.plugins, config)

    def _store_failed(self, error: StorageFailed) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    def _add_plugin_functions(self) -> None:
        for added in self.plugins.functions(self):
            self.register_function(added.function_id, added.function)


def _counting_engine() -> Engine:
    # Late: a host that nobody watches needs none of it.
    from iii_skill.metrics.counting import CountingEngine

    return CountingEngine()


@asynccontextmanager
async def open_host(
    *,
    adapter: str = "memory",
    adapter_config: Mapping[str, Any] | None = None,
    triggers_enabled: bool = True,
    max_value_bytes: int | None = None,
    engine_functions_only: bool = False,
    config: Config | None = None,
    plugins: Plugins | None = None,
    watched: bool = False,
) -> AsyncIterator[Host]:
    """A host in this process, closed at the end of the block; no socket is opened before `serve`.

    `async with open_host(adapter="memory") as host: await host.trigger("state::set", {...})`. `config` (from
    `load_config`) takes the place of the other settings; `watched` is for `serve(metrics_port=...)`. Raises
    PluginError, ConfigurationError and StoreRefused, each with a sentence that says what to do.
    """
    if config is None:
        state = StateConfig(
            adapter_name=adapter,
            adapter_config=dict(adapter_config or {}),
            triggers_enabled=triggers_enabled,
            max_value_bytes=max_value_bytes,
            where="adapter_config",
        )
        config = Config(state=state, engine_functions_only=engine_functions_only)
    elif not isinstance(config, Config):
        raise ConfigurationError(
            "`config` takes what `load_config` gives; settings of the adapter go into `adapter_config`."
        )
    host = Host(config, plugins=plugins, watched=watched)
    try:
        await host.open()
        yield host
    finally:
        await host.close()
