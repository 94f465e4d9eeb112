"""Waiting with a bound that a busy machine stretches: a process that gets no turn has not waited in vain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

TURN_S = 0.05


async def in_time(work: Awaitable[T], seconds: float) -> T:
    """The outcome of `work`, else TimeoutError after so many seconds in which our loop had its turns."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(math.ceil(seconds / TURN_S)):
            done, _ = await asyncio.wait([task], timeout=TURN_S)
            if done:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=TURN_S)
