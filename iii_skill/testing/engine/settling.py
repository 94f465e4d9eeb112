"""Settling: waiting until nothing is in flight in an engine, and saying what is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from iii_skill.state.functions import CHANGES
from iii_skill.testing.engine.processes import WatchedProgram
from iii_skill.testing.engine.recorder import Recorder
from iii_skill.testing.engine.restartable import RestartableHost

SETTLE_SECONDS = 10.0
QUIET_SECONDS = 0.02
"""Nothing may have happened for so long before an engine counts as settled."""
QUIET_TURNS = 5
"""And it must have had so many turns meanwhile: on a busy machine it may not have run at all for so long."""
COMPUTING_SECONDS = 1.0
"""A worker that computes without saying anything for so long is not waited for."""


async def settle(engine: RestartableHost, workers: Sequence[WatchedProgram], *, within: float) -> None:
    """Wait until nothing is in flight: calls, events, jobs and what companions write, what came due.

    And until no worker computes. TimeoutError names what is left.
    """
    __tracebackhide__ = True
    await engine.running()
    await quiet(
        engine.recorder, workers, seconds=QUIET_SECONDS, within=within, left_over=lambda: left_over(engine)
    )


async def quiet(
    recorder: Recorder,
    workers: Sequence[WatchedProgram],
    *,
    seconds: float,
    within: float,
    left_over: Callable[[], list[str]] | None = None,
) -> None:
    """Wait until nothing is left over, nothing has happened for so long, and no worker computes.

    TimeoutError names what is left; without `left_over` those are the recorded calls in flight.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + within
    seen, quiet_since, turns = -1, time.monotonic(), 0
    while True:
        left = _in_flight(recorder) if left_over is None else left_over()
        now = time.monotonic()
        if left or recorder.activity != seen:
            seen, quiet_since, turns = recorder.activity, now, 0
        elif turns >= QUIET_TURNS and now - quiet_since >= seconds and _idle(workers, now - quiet_since):
            return
        if now > deadline:
            listed = "".join(f"\n  {text}" for text in left) or "\n  something happens all the time"
            raise TimeoutError(f"not settled within {within:g} s; what is left:{listed}")
        await asyncio.sleep(0.005)
        turns += 1


def left_over(engine: RestartableHost) -> list[str]:
    """What is in flight, for people."""
    if engine.host is None:
        return ["the engine is starting again"]
    left = _in_flight(engine.recorder)
    for (scope, key), revision in engine.untold.waiting.items():
        left.append(f"the store has not told of the write of {scope} / {key} (revision {revision})")
    for subscriber, out, waiting in engine.host.engine.fanout.loads:
        left.append(f"{waiting} event(s) wait for {subscriber.function_id}, {out} are out")
    left += [f"the store has not answered {text}" for text in engine.host.watched.asked.open]
    if due := engine.host.clock.due:
        left.append(f"{due} moment(s) of the clock have come and are not told")
    return left


def _in_flight(recorder: Recorder) -> list[str]:
    now = recorder.now()
    return [
        f"{call.function_id}, called by {call.caller} {now - call.at:.1f} s ago, is not answered"
        for call in recorder.open.values()
        if call.function_id != CHANGES
    ]


def _idle(workers: Sequence[WatchedProgram], quiet: float) -> bool:
    if quiet > COMPUTING_SECONDS:
        return True
    return all(worker.fate is not None or worker.idle is not False for worker in workers)
