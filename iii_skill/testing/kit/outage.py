"""Outage: what the checks with a proxy before the server share: their group, and how they wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from iii_skill.adapter import CALL_SECONDS, CHANGES_SECONDS, StateAdapter
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.testing.checks import Group
from iii_skill.testing.subject import OpenedAdapter, expect
from iii_skill.values import Durability

CHECK_SECONDS = 120.0
MARGIN = 5.0
"""Seconds that a slow machine gets on top of what the contract allows."""


def talks_to_a_server(adapter: type[StateAdapter]) -> bool:
    """Adapters that reach their store over a connection."""
    return adapter.durability is Durability.REMOTE or adapter.server_setting is not None


def shares_a_server(adapter: type[StateAdapter]) -> bool:
    """Those of them that several hosts use at once."""
    return adapter.shared and talks_to_a_server(adapter)


group = Group("faults", applies=talks_to_a_server, seconds=CHECK_SECONDS)


async def works_again(store: OpenedAdapter) -> None:
    """A write and a read succeed within the time in which everything recovers."""
    end = time.monotonic() + CHANGES_SECONDS + MARGIN
    while True:
        try:
            await store.set("scope", "works", b"1")
            value = await store.get("scope", "works")
        except (AdapterUnavailable, AdapterTimeout) as error:
            expect(time.monotonic() < end, f"The store does not recover by itself: {error.message}")
            await asyncio.sleep(0.05)
        else:
            expect(value == b"1", "After a fault `get` does not give what was written.")
            return


async def within(work: Awaitable[None], what: str) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=CALL_SECONDS + MARGIN)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
        expect(False, f"{what} did not end within {CALL_SECONDS + MARGIN:.0f} s while the server is silent.")
    await task


async def until(condition: Callable[[], bool], what: str | None, *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            expect(what is None, f"Nothing {what} within {seconds:g} s.")
            return
        await asyncio.sleep(0.002)


def expect_adapter_errors(answers: dict[Any, Any]) -> None:
    for name, answer in answers.items():
        if isinstance(answer, BaseException):
            expect(
                isinstance(answer, AdapterError),
                f"While the server was out of reach {name!r} raised {answer!r:.120}, not an AdapterError.",
            )
