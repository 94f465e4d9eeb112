"""LocalEngine: a host on a thread of its own, with all that a test asks of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from iii_skill.config import Config, StateConfig
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.calls import Calls
from iii_skill.testing.engine.events import Events
from iii_skill.testing.engine.exact_state import ExactState
from iii_skill.testing.engine.faults import Fault, Faults
from iii_skill.testing.engine.http import Http
from iii_skill.testing.engine.in_test import EngineInTest
from iii_skill.testing.engine.loop_thread import LoopThread
from iii_skill.testing.engine.processes import WorkerProcess
from iii_skill.testing.engine.readiness import ready
from iii_skill.testing.engine.restartable import START_SECONDS, RestartableHost
from iii_skill.testing.engine.settling import SETTLE_SECONDS, settle
from iii_skill.testing.engine.state import State


class EngineClock:
    """The engine's time, by which schedules, retries and expiries go; it only moves forward."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._engine.ahead

    def advance(self, seconds: float) -> None:
        """Move it forward; what is due by then has begun when this returns.

        A schedule whose handler still runs misses the moment: settle before.
        """
        self._engine.advance(seconds)


class LocalEngine(EngineInTest):
    """Use it as a context manager, or `start` and `stop` it. Its methods are called from any other thread.

    In an async test they hold up the test's own event loop as long as they take:
    `await asyncio.to_thread(iii_engine.settle)` does not.
    """

    takes_faults = True

    def __init__(self, config: Config | None = None, *, plugins: Plugins, erase: bool = False) -> None:
        """`erase`: at the end the store is removed with all that it holds."""
        self.config = config or Config(state=StateConfig(adapter_name="memory"))
        self._host = RestartableHost(self.config, plugins=plugins, erase=erase)
        super().__init__(self._host.recorder)
        self._thread = LoopThread("iii-engine")
        self._stopped = False
        self.state = State(ExactState(self._host), self._thread.run)
        self.http = Http(lambda: self.http_url)
        self.events = Events(self.recorder)
        self.calls = Calls(self.recorder)
        self.faults = Faults(self._host.faults, drop=self._drop, restart=self._restart)
        self.clock = EngineClock(self)

    def start(self) -> Self:
        """Open the host and its ports."""
        self._thread.start()
        try:
            self._thread.run(self._host.open())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close everything; safe to call twice."""
        self._host.faults.clear()
        if not self._stopped:
            self._stopped = True
            self._thread.run(self._host.close())
        self._thread.stop()

    def _missed(self) -> list[Fault]:
        return self._host.faults.missed

    @property
    def url(self) -> str:
        """Where workers connect: `III_URL`."""
        return self._host.ws_url

    @property
    def http_url(self) -> str:
        """Where HTTP clients connect."""
        if not self._host.http_url:
            raise RuntimeError("this engine has no HTTP port: its configuration lists no iii-http")
        return self._host.http_url

    @property
    def companion_urls(self) -> dict[str, str]:
        """Where clients of companions connect, by name: `iii-stream`."""
        return dict(self._host.beside_urls)

    @property
    def ahead(self) -> float:
        """Seconds by which the clock was moved."""
        return self._host.ahead

    @property
    def environment(self) -> dict[str, str]:
        """What makes any SDK connect to this engine."""
        found = {"III_URL": self.url, "III_ENGINE_URL": self.url}
        return found if self.config.http is None else found | {"III_HTTP": self.http_url}

    def call(self, function_id: str, payload: Any = None, *, within: float = 30.0) -> Any:
        """The result of a function, as a worker that calls it gets it; InvocationError when it fails."""
        work = self._host.call(function_id, payload, within)
        return self._thread.run(work, within=within + START_SECONDS)

    def register_function(self, function_id: str, function: Callable[[Any], Any]) -> None:
        """Stand in for another worker: a callable, plain or `async`, on the engine's own thread."""
        self._thread.run(self._host.register_function(function_id, function))

    def register_trigger(self, trigger_type: str, function_id: str, config: Any = None) -> None:
        """Call the function when `trigger_type` fires."""
        self._thread.run(self._host.register_trigger(trigger_type, function_id, config))

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._thread.run(self._host.advance(seconds))

    def settle(self, *, within: float = SETTLE_SECONDS) -> None:
        """Wait until no call is in flight and no event undelivered; TimeoutError names what is left."""
        __tracebackhide__ = True
        work = settle(self._host, self.workers, within=within)
        self._thread.run(work, within=within + START_SECONDS)

    def functions(self) -> set[str]:
        """The ids of the functions that workers have registered."""

        return self._thread.run(self._host.registered())[0]

    def left(self, functions: set[str]) -> None:
        """The workers that had these functions were ended; this engine ends with the test, too."""

    def ready(
        self,
        worker: WorkerProcess | None,
        *,
        name: str,
        before: set[str],
        functions: Sequence[str] | None = None,
        within: float = START_SECONDS,
    ) -> set[str]:
        """Wait until a worker has registered its functions (`functions`, or what it wants); gives their ids.

        WorkerFailed holds its output when it ends or takes longer.
        """
        __tracebackhide__ = True
        work = ready(self._host, worker, name=name, before=before, functions=functions, within=within)
        return self._thread.run(work, within=within + START_SECONDS)

    def _drop(self, name: str | None) -> int:
        return self._thread.run(self._host.drop(name))

    def _restart(self) -> None:
        self._thread.run(self._host.restart())
