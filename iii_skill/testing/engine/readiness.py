"""Readiness: waiting until a worker has registered what it wants to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from iii_skill.testing.engine.processes import WatchedProgram
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.settling import COMPUTING_SECONDS

_QUIET_SECONDS = 0.05
_QUIET_UNSEEN_SECONDS = 0.3
"""Quiet after a worker's last registration, also where nobody can see whether it still computes."""


class WorkerFailed(AssertionError):
    """A worker ended, or registered nothing in time; says what it had written."""


class Registry(Protocol):
    """An engine, as far as one sees who registers."""

    @property
    def recorder(self) -> Recorder:
        """What happens."""

    async def registered(self) -> tuple[set[str], int]:
        """The ids of the functions of workers, and the number of triggers."""


async def ready(
    engine: Registry,
    worker: WatchedProgram | None,
    *,
    name: str,
    before: set[str],
    functions: Sequence[str] | None,
    within: float,
) -> set[str]:
    """Wait until a worker has registered its functions (`functions`, or what it wants); gives their ids.

    `before` is what was registered when it was started. WorkerFailed holds its output when it ends or takes
    longer than `within` seconds.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + within
    seen: tuple[set[str], int, int] | None = None
    quiet_since = time.monotonic()
    while True:
        found, triggers = await engine.registered()
        ids = found - before
        now = time.monotonic()
        state = (ids, triggers, engine.recorder.activity)
        if state != seen or engine.recorder.open:
            seen, quiet_since = state, now
        wanted = None if functions is None else set(functions)
        if wanted is not None and wanted <= ids | before:
            return wanted
        if worker is not None and worker.fate is not None:
            raise WorkerFailed(_failed(f"{name} {worker.fate}", ids, worker))
        if ids and wanted is None and _quiet(worker, now - quiet_since):
            return ids
        if now > deadline:
            missing = "any function" if wanted is None else ", ".join(sorted(wanted - ids))
            raise WorkerFailed(_failed(f"{name} did not register {missing} within {within:g} s", ids, worker))
        await asyncio.sleep(0.005)


def _quiet(worker: WatchedProgram | None, seconds: float) -> bool:
    """True when a worker that registered nothing for so long has no more to register."""
    idle = None if worker is None else worker.idle
    if idle is None:
        return seconds >= _QUIET_UNSEEN_SECONDS
    return seconds >= (_QUIET_SECONDS if idle else COMPUTING_SECONDS)


def _failed(what: str, ids: set[str], worker: WatchedProgram | None) -> str:
    registered = f"\nIt registered: {', '.join(sorted(ids))}." if ids else ""
    output = None if worker is None else worker.output
    if output is None:
        return f"{what}.{registered}"
    return f"{what}.{registered}\n--- its output ---\n{output.rstrip() or '(nothing)'}"
