"""One timer for everything that gets the same time."""

from __future__ import annotations

import asyncio

from support.site import until

from iii_skill.engine.deadlines import Deadlines


async def test_what_is_not_stopped_expires_in_the_order_of_the_starts() -> None:
    expired: list[str] = []
    deadlines = Deadlines(0.02, expired.append)
    for name in "abc":
        deadlines.start(name)
    deadlines.stop("b")
    deadlines.stop("unknown")
    assert list(deadlines) == ["a", "c"]
    await until(lambda: len(expired) == 2)
    assert expired == ["a", "c"]
    assert len(deadlines) == 0


async def test_what_is_started_when_another_expires_expires_too() -> None:
    expired: list[str] = []

    def again(name: str) -> None:
        expired.append(name)
        if len(expired) < 4:
            deadlines.start(name + "'")

    deadlines = Deadlines(0.01, again)
    deadlines.start("a")
    deadlines.start("b")
    await until(lambda: len(expired) == 5)
    assert expired == ["a", "b", "a'", "b'", "a''"]


async def test_nothing_expires_after_the_close() -> None:
    expired: list[str] = []
    deadlines = Deadlines(0.01, expired.append)
    deadlines.start("a")
    deadlines.close()
    over = asyncio.get_running_loop().time() + 0.03
    await until(lambda: asyncio.get_running_loop().time() > over)
    assert expired == []
