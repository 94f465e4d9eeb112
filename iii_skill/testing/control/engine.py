"""ControlledEngine: an engine of a test in another process, on the loop of the control port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from iii_skill.config import Config
from iii_skill.plugins import Plugins
from iii_skill.testing.control.refusals import VerbRefused, bad_request, no_such, not_so
from iii_skill.testing.engine.calls import Calls
from iii_skill.testing.engine.events import Events
from iii_skill.testing.engine.exact_state import ExactState
from iii_skill.testing.engine.faults import Fault, Faults
from iii_skill.testing.engine.own_store import with_own_store
from iii_skill.testing.engine.processes import ForeignProcess
from iii_skill.testing.engine.readiness import WorkerFailed, ready
from iii_skill.testing.engine.restartable import RestartableHost
from iii_skill.testing.engine.settling import settle

T = TypeVar("T")

MAX_FAULTS = 10_000
"""Faults that one engine may have been given."""


class ControlledEngine:
    """Opened and closed once; what may wait is given up when it closes."""

    def __init__(self, config: Config, *, plugins: Plugins, port: int = 0, http_port: int = 0) -> None:
        """`{unique}` in the adapter's settings, and `file` without a directory, make a store of its own."""
        self._directory: TemporaryDirectory[str] | None = None
        config, erase = with_own_store(config, self._place)
        self.host = RestartableHost(config, plugins=plugins, erase=erase, port=port, http_port=http_port)
        self.state = ExactState(self.host)
        self.events = Events(self.host.recorder)
        self.calls = Calls(self.host.recorder)
        self._began: list[asyncio.Task[Any]] = []
        self.faults = Faults(
            self.host.faults,
            drop=lambda name: cast(int, self._begin(self.host.drop(name))),
            restart=lambda: cast(None, self._begin(self.host.restart())),
        )
        self._faults: list[Fault] = []
        self._workers: dict[int, ForeignProcess] = {}
        self._waiting: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Open the host and its ports."""
        try:
            await self.host.open()
        except BaseException:
            self._remove_directory()
            raise

    async def close(self) -> None:
        """Close everything; whoever waits is told."""
        for task in self._waiting:
            task.cancel()
        self.host.faults.clear()
        try:
            await self.host.close()
        finally:
            self._remove_directory()

    def end_workers(self) -> None:
        """Kill the workers that were waited for and still run: whoever started them is gone."""
        for worker in self._workers.values():
            worker.end()

    async def waited(self, work: Awaitable[T]) -> T:
        """The result of what may take its time; VerbRefused when the engine closes meanwhile."""
        task = asyncio.ensure_future(work)
        self._waiting.add(task)
        try:
            await asyncio.wait((task,))
            if task.cancelled():
                raise VerbRefused(410, "ENGINE_CLOSED", "The engine was closed meanwhile.")
            return task.result()
        finally:
            task.cancel()
            self._waiting.discard(task)

    async def found(self, look: Callable[[], T | None], within: float) -> T | None:
        """What `look` finds, now or once something has happened; None after `within` seconds."""
        recorder = self.host.recorder
        happened = asyncio.Event()
        recorder.listeners.add(happened.set)
        deadline = time.monotonic() + within
        try:
            while True:
                began = time.monotonic()
                found = look()
                now = time.monotonic()
                if found is not None or now >= deadline:
                    return found
                happened.clear()
                try:
                    await asyncio.wait_for(happened.wait(), deadline - now)
                except TimeoutError:
                    continue
                # A look at a long record takes a while: the engine has twice as long before the next one.
                await asyncio.sleep(2 * (now - began))
        finally:
            recorder.listeners.discard(happened.set)

    async def strike(self, verb: Callable[..., Any], arguments: dict[str, Any]) -> object:
        """Call a method of `faults`; gives the number of the fault, or what happened at once."""
        if len(self._faults) == MAX_FAULTS:
            raise not_so("TOO_MANY_FAULTS", f"This engine was given {MAX_FAULTS} faults: open another one.")
        try:
            answer = verb(**arguments)
        except ValueError as error:
            raise bad_request(f"{error}.") from None
        began, self._began = self._began, []
        for task in began:
            await asyncio.shield(task)
        if isinstance(answer, Fault):
            self._faults.append(answer)
            return {"fault": len(self._faults)}
        return answer.result() if isinstance(answer, asyncio.Task) else answer

    def fault(self, number: int) -> Fault:
        """A fault of this engine by its number."""
        if not 1 <= number <= len(self._faults):
            raise no_such("FAULT", f"This engine has no fault {number}.")
        return self._faults[number - 1]

    async def settle(self, within: float) -> None:
        """Wait until nothing is in flight and no worker computes."""
        self._workers = {pid: one for pid, one in self._workers.items() if one.fate is None}
        try:
            await settle(self.host, list(self._workers.values()), within=within)
        except TimeoutError as error:
            raise not_so("NOT_SETTLED", str(error)) from None

    async def functions(self) -> list[str]:
        """The ids of what workers have registered, sorted."""
        return sorted((await self.host.registered())[0])

    async def ready(
        self, name: str, before: set[str], pid: int | None, functions: Sequence[str] | None, within: float
    ) -> list[str]:
        """Wait until a worker has registered its functions; a process is looked at as long as it lives."""
        worker = None
        if pid is not None:
            worker = self._workers[pid] = ForeignProcess(pid)
        try:
            found = await ready(
                self.host, worker, name=name, before=before, functions=functions, within=within
            )
        except WorkerFailed as error:
            raise not_so("WORKER_FAILED", str(error)) from None
        return sorted(found)

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._began.append(task)
        return task

    def _place(self) -> Path:
        self._directory = TemporaryDirectory(prefix="iii-engine-", ignore_cleanup_errors=True)
        return Path(self._directory.name, "iii-state")

    def _remove_directory(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.cleanup()
