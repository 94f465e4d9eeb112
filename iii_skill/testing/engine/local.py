"""LocalEngine: a host on a thread of its own, with all that a test asks of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from iii_skill.config import Config, StateConfig
from iii_skill.engine.workers import RESTART as RECONNECT
from iii_skill.errors import PortTaken
from iii_skill.plugins import Plugins
from iii_skill.state.changes_function import FUNCTION_ID as CHANGES
from iii_skill.testing.engine.calls import Calls
from iii_skill.testing.engine.events import Events
from iii_skill.testing.engine.faults import Faults, FaultTable
from iii_skill.testing.engine.http import Http
from iii_skill.testing.engine.loop_thread import LoopThread
from iii_skill.testing.engine.processes import WorkerProcess
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.report import readable, transcript
from iii_skill.testing.engine.state import State
from iii_skill.testing.engine.watched import Contents, WatchedEngine, WatchedHost

START_SECONDS = 30.0
CLOSE_SECONDS = 0.2
"""What is in flight when an engine ends, and companions, have so long."""
SETTLE_SECONDS = 10.0
QUIET_SECONDS = 0.02
"""Nothing may have happened for so long before an engine counts as settled."""
_QUIET_SHARED_SECONDS = 0.5
"""The same on a store that hosts share: it tells of a change a little after its writer was answered."""
_READY_QUIET_SECONDS = 0.05
_READY_QUIET_UNSEEN_SECONDS = 0.3
"""The same after a worker's last registration, and where nobody can see whether it still computes."""
_COMPUTING_SECONDS = 1.0
"""A worker that computes without saying anything for so long is not waited for."""


class WorkerFailed(AssertionError):
    """A worker ended, or registered nothing in time; says what it had written."""


class EngineClock:
    """The engine's time, by which schedules, retries and expiries go; it only moves forward."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._engine.ahead

    def advance(self, seconds: float) -> None:
        """Move it forward; what is due by then has begun when this returns."""
        self._engine.advance(seconds)


class LocalEngine:
    """Use it as a context manager, or `start` and `stop` it. Its methods are called from any other thread.

    In an async test they hold up the test's own event loop as long as they take:
    `await asyncio.to_thread(iii_engine.settle)` does not.
    """

    __test__ = False

    def __init__(self, config: Config | None = None, *, plugins: Plugins, erase: bool = False) -> None:
        """`erase`: at the end the store is removed with all that it holds."""
        self._erase = erase
        self.config = config or Config(state=StateConfig(adapter_name="memory"))
        self.recorder = Recorder()
        self.ahead = 0.0
        """Seconds by which the clock was moved."""
        self.workers: list[WorkerProcess] = []
        """The processes that were started for it."""
        self._plugins = plugins
        self._faults = FaultTable()
        self._thread = LoopThread("iii-engine")
        self._host: WatchedHost | None = None
        self._ws = ""
        self._http = ""
        self._functions: dict[str, Callable[[Any], Any]] = {}
        self._triggers: list[tuple[str, str, Any]] = []
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False
        self.state = State(self._unseen)
        self.http = Http(lambda: self.http_url)
        self.events = Events(self.recorder)
        self.calls = Calls(self.recorder)
        self.faults = Faults(self._faults, drop=self._drop, restart=self._restart_now)
        self.clock = EngineClock(self)

    def __enter__(self) -> LocalEngine:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> LocalEngine:
        """Open the host and its ports."""
        self._thread.start()
        try:
            self._thread.run(self._open({}))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close everything; safe to call twice."""
        self._faults.clear()
        if not self._stopped:
            self._stopped = True
            self._thread.run(self._close())
        self._thread.stop()

    @property
    def url(self) -> str:
        """Where workers connect: `III_URL`."""
        return self._ws

    @property
    def http_url(self) -> str:
        """Where HTTP clients connect."""
        if not self._http:
            raise RuntimeError("this engine has no HTTP port: its configuration lists no iii-http")
        return self._http

    @property
    def transcript(self) -> str:
        """All that happened: calls, events, workers, faults, one JSON object a line."""
        return transcript(self.recorder)

    @property
    def sections(self) -> list[tuple[str, str]]:
        """What the report of a failing test shows: headings and texts."""
        found = [("iii engine", readable(self.recorder))]
        for worker in self.workers:
            code = "" if worker.ended is None else f", ended with {worker.ended}"
            found.append((f"worker {' '.join(worker.command)}{code}", worker.output))
        return [(heading, text) for heading, text in found if text]

    def call(self, function_id: str, payload: Any = None, *, within: float = 30.0) -> Any:
        """The result of a function, as a worker that calls it gets it; InvocationError when it fails."""

        async def called() -> Any:
            return await (await self._running()).trigger(function_id, payload, timeout=within)

        return self._thread.run(called(), within=within + START_SECONDS)

    def register_function(self, function_id: str, function: Callable[[Any], Any]) -> None:
        """Stand in for another worker: a callable, plain or `async`, on the engine's own thread."""

        async def register() -> None:
            (await self._running()).register_function(function_id, function)
            self._functions[function_id] = function

        self._thread.run(register())

    def register_trigger(self, trigger_type: str, function_id: str, config: Any = None) -> None:
        """Call the function when `trigger_type` fires."""

        async def register() -> None:
            (await self._running()).register_trigger(trigger_type, function_id, config)
            self._triggers.append((trigger_type, function_id, config))

        self._thread.run(register())

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""

        async def moved() -> None:
            (await self._running()).clock.advance(seconds)
            self.ahead += seconds
            for _ in range(3):
                # What is due is called by the loop, and then what that puts into the loop.
                await asyncio.sleep(0)

        self._thread.run(moved())

    def settle(self, *, within: float = SETTLE_SECONDS) -> None:
        """Wait until no call is in flight and no event undelivered; TimeoutError names what is left."""
        __tracebackhide__ = True
        self._thread.run(self._settle(within), within=within + START_SECONDS)

    def functions(self) -> set[str]:
        """The ids of the functions that workers have registered."""

        async def ids() -> set[str]:
            return _of_workers(await self._running())

        return self._thread.run(ids())

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
        return self._thread.run(
            self._ready(worker, name, before, functions, within), within=within + START_SECONDS
        )

    # From here on: on the engine's own thread, or called from it.

    async def _running(self) -> WatchedHost:
        """The host, after a restart that is under way."""
        while self._restarting is not None:
            await asyncio.wait([self._restarting])
        if self._host is None:
            raise RuntimeError("the engine does not run: use it inside `with`, or inside the test")
        return self._host

    def _unseen(self, function_id: str, payload: Any) -> Any:
        async def called() -> Any:
            return await (await self._running()).watched.unseen(function_id, payload)

        return self._thread.run(called())

    async def _open(self, contents: Contents) -> None:
        engine = WatchedEngine(self.recorder, self._faults, restart=self._restart_soon)
        host = WatchedHost(self.config, plugins=self._plugins, engine=engine, contents=contents)
        if self.ahead:
            host.clock.advance(self.ahead)
        await host.open()
        try:
            self._listen(host)
            for function_id, function in self._functions.items():
                host.register_function(function_id, function)
            for trigger_type, function_id, config in self._triggers:
                host.register_trigger(trigger_type, function_id, config)
            await self._serve(host)
        except BaseException:
            await host.close(grace_s=CLOSE_SECONDS)
            raise
        self._host = host

    async def _serve(self, host: WatchedHost) -> None:
        """Open the ports, after a restart the same: another program may hold one for a moment."""
        port, http_port = urlsplit(self._ws).port or 0, urlsplit(self._http).port or 0
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                servers = await host.serve(address="127.0.0.1", port=port, http_port=http_port)
                break
            except PortTaken:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
        self._ws, self._http = servers.ws_url, servers.http_url or ""

    def _listen(self, host: WatchedHost) -> None:
        """Record every change."""
        state = host.state
        if state is None:
            return
        log = state.log
        told, seen = log.on_append, log.last

        def appended() -> None:
            nonlocal seen
            # After a break of a shared store's stream the log begins again.
            first = min(seen, log.last)
            seen = log.last
            for recorded in log.after(log.cursor(first)):
                self.recorder.event(recorded.change)
            if told is not None:
                told()

        log.on_append = appended
        log.recording = True
        state.listen()

    def _drop(self, name: str | None) -> int:
        async def dropped() -> int:
            workers = (await self._running()).engine.workers.values()
            chosen = [worker for worker in workers if name in (None, worker.name)]
            for worker in chosen:
                worker.close(RECONNECT, "the connection breaks on purpose")
            return len(chosen)

        return self._thread.run(dropped())

    def _restart_now(self) -> None:
        async def restarted() -> None:
            await self._running()
            await self._restart_soon()

        self._thread.run(restarted())

    def _restart_soon(self) -> asyncio.Task[None]:
        """Begin a restart, unless one is under way."""
        if self._restarting is None:
            self._restarting = asyncio.get_running_loop().create_task(self._restart())
            self._restarting.add_done_callback(self._restarted)
        return self._restarting

    def _restarted(self, task: asyncio.Task[None]) -> None:
        self._restarting = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.recorder.note(f"the engine did not start again: {error}")

    async def _close(self) -> None:
        if self._restarting is not None:
            await asyncio.wait([self._restarting])
        host, self._host = self._host, None
        if host is None:
            return
        if self._erase and host.adapter is not None:
            await host.adapter.erase()
        await host.close(grace_s=CLOSE_SECONDS)

    async def _restart(self) -> None:
        host, self._host = self._host, None
        if host is None:
            return
        self.recorder.note("the engine ends")
        contents = await host.contents()
        await host.close(grace_s=CLOSE_SECONDS)
        self.recorder.gave_up(lambda _call: True)
        await self._open(contents)
        self.recorder.note("the engine is up again")

    async def _settle(self, within: float) -> None:
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        seen, quiet_since = -1, time.monotonic()
        adapter = (await self._running()).adapter
        quiet = _QUIET_SHARED_SECONDS if adapter is not None and adapter.shared else QUIET_SECONDS
        while True:
            left = self._left()
            now = time.monotonic()
            if left or self.recorder.activity != seen:
                seen, quiet_since = self.recorder.activity, now
            elif now - quiet_since >= quiet and self._workers_idle(now - quiet_since):
                return
            if now > deadline:
                listed = "".join(f"\n  {text}" for text in left) or "\n  something happens all the time"
                raise TimeoutError(f"not settled within {within:g} s; what is left:{listed}")
            await asyncio.sleep(0.005)

    def _left(self) -> list[str]:
        """What is in flight, for people."""
        if self._host is None:
            return ["the engine is starting again"]
        engine = self._host.engine
        now = self.recorder.now()
        left = [
            f"{call.function_id}, called by {call.caller} {now - call.at:.1f} s ago, is not answered"
            for call in self.recorder.open.values()
            if call.function_id != CHANGES
        ]
        for subscriber, out, waiting in engine.fanout.loads:
            left.append(f"{waiting} event(s) wait for {subscriber.function_id}, {out} are out")
        return left

    def _workers_idle(self, quiet: float) -> bool:
        if quiet > _COMPUTING_SECONDS:
            return True
        return all(worker.ended is not None or worker.idle is not False for worker in self.workers)

    async def _ready(
        self,
        worker: WorkerProcess | None,
        name: str,
        before: set[str],
        functions: Sequence[str] | None,
        within: float,
    ) -> set[str]:
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        seen: tuple[set[str], int, int] | None = None
        quiet_since = time.monotonic()
        while True:
            host = await self._running()
            ids = _of_workers(host) - before
            now = time.monotonic()
            state = (ids, sum(1 for _ in host.engine.triggers.placed()), self.recorder.activity)
            if state != seen or self.recorder.open:
                seen, quiet_since = state, now
            wanted = None if functions is None else set(functions)
            if wanted is not None and wanted <= ids | before:
                return wanted
            if worker is not None and worker.ended is not None:
                raise WorkerFailed(_failed(f"{name} ended with exit code {worker.ended}", ids, worker))
            if ids and wanted is None and _quiet(worker, now - quiet_since):
                return ids
            if now > deadline:
                missing = "no function" if wanted is None else f"not {', '.join(sorted(wanted - ids))}"
                raise WorkerFailed(_failed(f"{name} registered {missing} within {within:g} s", ids, worker))
            await asyncio.sleep(0.005)


def _of_workers(host: WatchedHost) -> set[str]:
    return {function.id for function in host.engine.functions if function.owner is not None}


def _quiet(worker: WorkerProcess | None, seconds: float) -> bool:
    """True when a worker that registered nothing for so long has no more to register."""
    idle = None if worker is None else worker.idle
    if idle is None:
        return seconds >= _READY_QUIET_UNSEEN_SECONDS
    return seconds >= (_READY_QUIET_SECONDS if idle else _COMPUTING_SECONDS)


def _failed(what: str, ids: set[str], worker: WorkerProcess | None) -> str:
    registered = f"\nIt registered: {', '.join(sorted(ids))}." if ids else ""
    output = "" if worker is None else worker.output.rstrip()
    return f"{what}.{registered}\n--- its output ---\n{output or '(nothing)'}"


def worker_environment(engine: LocalEngine, env: Mapping[str, str] | None) -> dict[str, str]:
    """What makes any SDK connect to this engine."""
    own = {"III_URL": engine.url, "III_ENGINE_URL": engine.url}
    if engine.config.http is not None:
        own["III_HTTP"] = engine.http_url
    return {**os.environ, "OTEL_ENABLED": "false", "PYTHONUNBUFFERED": "1", **own, **(env or {})}
