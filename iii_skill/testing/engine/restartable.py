"""RestartableHost: a watched host that ends and starts again with the same ports, data and functions.

All of it happens on one event loop: that of a test's engine, or that of a process which serves one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from iii_skill.config import Config
from iii_skill.engine.workers import RESTART as RECONNECT
from iii_skill.errors import PortTaken
from iii_skill.plugins import Plugins
from iii_skill.testing.engine.faults import FaultTable
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.untold import Untold
from iii_skill.testing.engine.watched import Contents, WatchedEngine, WatchedHost

TURNS = 10
"""What is due begins within so many turns of the loop, where nothing outside of it is waited for."""
BEGIN_SECONDS = 10.0
"""A store that does not answer for so long is not waited for when the clock is moved."""
START_SECONDS = 30.0
CLOSE_SECONDS = 0.2
"""What is in flight when an engine ends, and companions, have so long."""


class RestartableHost:
    """`open` and `close` it once; in between it may be restarted any number of times."""

    def __init__(
        self,
        config: Config,
        *,
        plugins: Plugins,
        erase: bool = False,
        port: int = 0,
        http_port: int = 0,
    ) -> None:
        """`erase`: at the end the store is removed with all that it holds. Ports are free ones if 0."""
        self.config = config
        self.recorder = Recorder()
        self.faults = FaultTable()
        self.ahead = 0.0
        """Seconds by which the clock was moved."""
        self.ws_url = ""
        """Where workers connect."""
        self.http_url = ""
        """Where HTTP clients connect; empty without an HTTP port."""
        self.host: WatchedHost | None = None
        """None before `open`, after `close`, and while it starts again."""
        self.untold = Untold()
        self.beside_urls: dict[str, str] = {}
        """Where clients of companions connect, by name (`iii-stream`)."""
        self._plugins = plugins
        self._erase = erase
        self._ports = (port, http_port)
        self._functions: dict[str, Callable[[Any], Any]] = {}
        self._triggers: list[tuple[str, str, Any]] = []
        self._restarting: asyncio.Task[None] | None = None

    async def open(self, contents: Contents | None = None) -> None:
        """Open the host and its ports; `contents` is what a store that forgets had held."""
        engine = WatchedEngine(self.recorder, self.faults, restart=self.restart_soon)
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
        self.host = host
        host.failed.add_done_callback(lambda _: self._store_failed(host))

    async def close(self) -> None:
        """Close everything."""
        if self._restarting is not None:
            await asyncio.wait([self._restarting])
        host, self.host = self.host, None
        if host is None:
            return
        if self._erase and host.adapter is not None:
            await host.adapter.erase()
        await host.close(grace_s=CLOSE_SECONDS)

    async def running(self) -> WatchedHost:
        """The host, after a restart that is under way."""
        while self._restarting is not None:
            await asyncio.wait([self._restarting])
        if self.host is None:
            raise RuntimeError("the engine does not run: use it inside `with`, or inside the test")
        return self.host

    async def call(self, function_id: str, payload: Any, within: float) -> Any:
        """The result of a function, as a worker that calls it gets it."""
        return await (await self.running()).trigger(function_id, payload, timeout=within)

    async def call_exact(self, function_id: str, payload: bytes, within: float) -> bytes | None:
        """The same, with encoded JSON in and out."""
        return await (await self.running()).trigger_exact(function_id, payload, timeout=within)

    async def unseen(self, function_id: str, payload: bytes) -> bytes | None:
        """The same, neither recorded nor struck by a fault."""
        return await (await self.running()).watched.unseen(function_id, payload)

    async def register_function(self, function_id: str, function: Callable[[Any], Any]) -> None:
        """A function inside the host, also after a restart."""
        (await self.running()).register_function(function_id, function)
        self._functions[function_id] = function

    async def register_trigger(self, trigger_type: str, function_id: str, config: Any) -> None:
        """A trigger of the host's own, also after a restart."""
        (await self.running()).register_trigger(trigger_type, function_id, config)
        self._triggers.append((trigger_type, function_id, config))

    async def registered(self) -> tuple[set[str], int]:
        """The ids of the functions that workers have registered, and the number of triggers."""
        engine = (await self.running()).engine
        ids = {function.id for function in engine.functions if function.owner is not None}
        return ids, sum(1 for _ in engine.triggers.placed())

    async def advance(self, seconds: float) -> None:
        """Move the clock forward; what is due by then has begun when this ends.

        A schedule whose handler has answered before misses nothing.
        """
        host = await self.running()
        # Such a schedule computes its next moment some turns after the answer.
        await _turns()
        asked = host.watched.asked
        before = asked.last
        host.clock.advance(seconds)
        self.ahead += seconds
        deadline = time.monotonic() + BEGIN_SECONDS
        while host is self.host and host.clock.due and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await _turns()
        # Some of it asks the store first: which host calls the handler, which keys are over.
        begins = asked.after(before)
        while host is self.host and asked.any_of(begins) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await _turns()

    async def drop(self, name: str | None) -> int:
        """Break the connections of all workers, or of those with this name; gives how many."""
        workers = (await self.running()).engine.workers.values()
        chosen = [worker for worker in workers if name in (None, worker.name)]
        for worker in chosen:
            worker.close(RECONNECT, "the connection breaks on purpose")
        return len(chosen)

    async def restart(self) -> None:
        """End and start again; ends when it is up."""
        await self.running()
        await self.restart_soon()

    def restart_soon(self) -> asyncio.Task[None]:
        """Begin a restart, unless one is under way."""
        if self._restarting is None:
            self._restarting = asyncio.get_running_loop().create_task(self._restart())
            self._restarting.add_done_callback(self._restarted)
        return self._restarting

    def _store_failed(self, host: WatchedHost) -> None:
        """Do what a supervisor does when `iii-skill serve` ends because of it."""
        if self.host is host:
            self.recorder.note(host.failed.result().message)
            self.restart_soon()

    def _restarted(self, task: asyncio.Task[None]) -> None:
        self._restarting = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.recorder.note(f"the engine did not start again: {error}")

    async def _restart(self) -> None:
        host, self.host = self.host, None
        if host is None:
            return
        self.recorder.note("the engine ends")
        await host.close(grace_s=CLOSE_SECONDS)
        self.recorder.gave_up(lambda _call: True)
        await self.open(host.kept)
        self.recorder.note("the engine is up again")

    async def _serve(self, host: WatchedHost) -> None:
        """Open the ports, after a restart the same: another program may hold one for a moment."""
        port, http_port = self._ports
        again = bool(self.ws_url)
        beside = host.companions.ports
        for wanted in beside:
            if wanted.name in self.beside_urls:
                wanted.port, wanted.chosen = urlsplit(self.beside_urls[wanted.name]).port or 0, True
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                servers = await host.serve(address="127.0.0.1", port=port, http_port=http_port)
                break
            except PortTaken:
                if not again or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
        self.ws_url, self.http_url = servers.ws_url, servers.http_url or ""
        self.beside_urls = {wanted.name: wanted.url for wanted in beside if wanted.url}
        self._ports = urlsplit(self.ws_url).port or 0, urlsplit(self.http_url).port or 0

    def _listen(self, host: WatchedHost) -> None:
        """Record every change."""
        state = host.state
        if state is None:
            return
        log, untold = state.log, Untold()
        told, seen, epoch = log.on_append, log.last, log.epoch

        def appended() -> None:
            nonlocal seen, epoch
            if log.epoch != epoch:
                # The stream of a shared store broke: what it had to tell may never come.
                epoch = log.epoch
                untold.forget()
            first = min(seen, log.last)
            seen = log.last
            for recorded in log.after(log.cursor(first)):
                untold.told(recorded.change)
                self.recorder.event(recorded.change)
            if told is not None:
                told()

        log.on_append = appended
        log.recording = True
        state.publisher.on_promised = untold.promised
        self.untold = untold
        state.listen()


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
