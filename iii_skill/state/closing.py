"""Close the state worker and its adapter within a time; what does not end is left behind and named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from iii_skill.state.worker import StateWorker

if TYPE_CHECKING:
    from iii_skill.adapter import StateAdapter

LEAST_S = 1.0
"""Seconds that the adapter's `close` gets when calls have used up the rest: it makes the store whole."""
LEAST_FOR_CALLS_S = 0.25
"""Seconds in which what is to end at once does so."""


async def close_state(
    worker: StateWorker | None, adapter: StateAdapter | None, *, deadline: float
) -> list[str]:
    """Let calls under way end until the loop's time is up, then close the store; what was left behind."""
    loop = asyncio.get_running_loop()
    left: list[str] = []
    if worker is not None and not await _ends(worker.close(), max(deadline, loop.time() + LEAST_FOR_CALLS_S)):
        count = worker.abandon()
        if count:
            left.append(f"{count} {'call' if count == 1 else 'calls'} that the store has not answered")
    if adapter is not None and not await _ends(adapter.close(), max(deadline, loop.time() + LEAST_S)):
        left.append(f"the store itself: `close` of the adapter '{adapter.name}' has not ended")
    return left


async def _ends(work: Awaitable[None], deadline: float) -> bool:
    """Whether it ended by then; it is cancelled otherwise, and not waited for: it may ignore that."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=max(0.0, deadline - loop.time()))
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.done():
        task.result()
        return True
    task.cancel()
    return False
