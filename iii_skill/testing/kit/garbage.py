"""Garbage: what answered calls leave behind that only the collector of Python frees.

It stops the whole host to look for cycles, the longer the more there is.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from iii_skill.deferred import Deferred
from iii_skill.testing.kit.concurrency import increment
from iii_skill.testing.kit.lifecycle import group
from iii_skill.testing.subject import OpenedAdapter, Subject, expect

_CALLS = 50


@group.check()
async def answered_calls_leave_nothing_to_the_collector(subject: Subject) -> None:
    """Objects of the adapter are freed with the answer: none is in a cycle of references."""
    store = await subject.open()
    ours = (subject.adapter_type.__module__.partition(".")[0], "iii_skill.adapters", "iii_skill.deferred")
    await _burst(store)
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        await _burst(store)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(
            f"{type(one).__module__}.{type(one).__qualname__}"
            for one in gc.garbage
            if any(f"{type(one).__module__}.".startswith(f"{name}.") for name in ours)
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if enabled:
            gc.enable()
    expect(
        not found,
        f"{5 * _CALLS} answered calls left cycles of references: {dict(found.most_common(3))}.",
    )


async def _burst(store: OpenedAdapter) -> None:
    """Many calls at once, listened to as the host does."""
    told: list[object] = []
    waiting: list[Awaitable[Any]] = []
    goal = 0
    for number in range(_CALLS):
        key = f"key-{number % 5}"
        adapter = store.adapter
        for answer in (
            adapter.get("scope", key),
            adapter.set("scope", key, b"1"),
            adapter.update("scope", key, increment),
            adapter.update("scope", key, lambda _old: b"2"),
            adapter.delete("scope", key),
        ):
            if isinstance(answer, Deferred):
                goal += 1
                answer.listen(told, list.append, list.append)
            elif inspect.isawaitable(answer):
                waiting.append(answer)
        del answer
    await asyncio.gather(*waiting)
    while len(told) < goal:  # noqa: ASYNC110 - the runner ends it
        await asyncio.sleep(0.001)
