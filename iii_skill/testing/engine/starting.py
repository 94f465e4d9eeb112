"""Workers: start workers for an engine, in processes or out of a callable, and end them with the test."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iii_skill.testing.engine.foreign import ForeignEngine
from iii_skill.testing.engine.local import LocalEngine
from iii_skill.testing.engine.processes import STOP_SECONDS, WorkerProcess, command_of, environment_of
from iii_skill.testing.engine.readiness import WorkerFailed
from iii_skill.testing.engine.restartable import START_SECONDS


class StartedWorker:
    """A worker that has registered its functions."""

    def __init__(self, functions: set[str]) -> None:
        self.functions = functions
        """The ids of what it registered."""

    def stop(self) -> int:
        """End it in an orderly way; its exit code."""
        raise NotImplementedError


class ProcessWorker(StartedWorker):
    """A worker in a process of its own."""

    def __init__(self, process: WorkerProcess, functions: set[str]) -> None:
        super().__init__(functions)
        self.process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has written to stdout and stderr."""
        return self.process.output

    def stop(self) -> int:
        """SIGTERM, and SIGKILL when that does not end it; its exit code."""
        return self.process.stop(seconds=STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.kill()


class CallableWorker(StartedWorker):
    """A worker of the Python SDK inside the test's process."""

    def __init__(self, client: Any, functions: set[str]) -> None:
        super().__init__(functions)
        self.client = client
        """The SDK's client, as `register_worker` gives it."""
        self._stopped = False

    def stop(self) -> int:
        """Disconnect; 0."""
        if not self._stopped:
            self._stopped = True
            self.client.shutdown()
        return 0


class Workers:
    """Starts workers; called as `iii_worker("worker.py")`."""

    def __init__(self, engine: LocalEngine | ForeignEngine, places: Sequence[Path]) -> None:
        """Files are looked for in `places`."""
        self._engine = engine
        self._places = places
        self._started: list[StartedWorker] = []

    def __call__(
        self,
        target: str | Path | Sequence[str] | Callable[[Any], object],
        *,
        functions: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        within: float = START_SECONDS,
    ) -> Any:
        """Start a worker and wait until its functions are registered; gives the running worker.

        `target` is a program (`worker.py`, `worker.mjs`, a folder with a Cargo.toml, an executable), a
        command line, a command as a list, or a callable that gets a connected client of the Python SDK and
        registers. `functions` names what to wait for; without it the worker is ready when it has registered
        something and has nothing more to do. WorkerFailed says what it wrote when it ends before.
        """
        before = self._engine.functions()
        if callable(target) and not isinstance(target, str | Path):
            return self._call(target, before, functions, within)
        command = command_of(target, self._places)
        if command[:2] == ["cargo", "run"]:
            # Apart from the time that the worker has to register.
            _build(["cargo", "build", *command[2:]], env)
        process = WorkerProcess(
            command,
            cwd=Path(cwd) if cwd is not None else self._places[0],
            env=environment_of(self._engine.environment, env),
        )
        self._engine.workers.append(process)
        started = ProcessWorker(process, set())
        self._started.append(started)
        started.functions = self._engine.ready(
            process, name=" ".join(command), before=before, functions=functions, within=within
        )
        return started

    def stop(self) -> None:
        """End all of them, the last one first."""
        gone: set[str] = set()
        while self._started:
            worker = self._started.pop()
            worker.stop()
            gone |= worker.functions
        self._engine.left(gone)

    def _call(
        self,
        register: Callable[[Any], object],
        before: set[str],
        functions: Sequence[str] | None,
        within: float,
    ) -> CallableWorker:
        try:
            sdk = importlib.import_module("iii")
        except ImportError:
            raise RuntimeError(
                "A callable registers through the Python SDK, which is not installed here: "
                "pip install iii-sdk, or start the worker as a program."
            ) from None
        name = getattr(register, "__name__", "worker")
        options = sdk.InitOptions(worker_name=name, otel={"enabled": False})
        client = sdk.register_worker(self._engine.url, options)
        started = CallableWorker(client, set())
        self._started.append(started)
        register(client)
        if functions is None:
            # Messages keep their order: once this is answered, everything before it was taken.
            client.trigger({"function_id": "engine::functions::list", "payload": {}})
            started.functions = self._engine.functions() - before
        else:
            started.functions = self._engine.ready(
                None, name=name, before=before, functions=functions, within=within
            )
        return started


def _build(command: Sequence[str], env: Mapping[str, str] | None) -> None:
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode:
        raise WorkerFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")


def places_of(test_file: Path, root: Path) -> list[Path]:
    """Where a test's programs are looked for: beside the test, in the project, in the working directory."""
    return list(dict.fromkeys((test_file.parent, root, Path(os.getcwd()))))
