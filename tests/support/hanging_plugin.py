"""Adapters of which one part never ends, as plugins of a host in a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from iii_state_memory import MemoryAdapter

import iii_skill
from iii_skill.adapter import StateAdapter
from iii_skill.values import PRIVATE_SCOPES, Change


class CallHangs(MemoryAdapter):
    name: ClassVar[str] = "call-hangs"

    async def set(self, scope: str, key: str, value: bytes) -> Change:  # type: ignore[override]
        if key == "hang":
            await asyncio.Event().wait()
        return super().update(scope, key, lambda _old: value)


class CallIgnoresItsEnd(MemoryAdapter):
    name: ClassVar[str] = "call-ignores-its-end"

    async def get(self, scope: str, key: str) -> bytes | None:  # type: ignore[override]
        if scope.startswith(PRIVATE_SCOPES):
            # What the host looks up at its start is none of the calls that hang.
            answer = super().get(scope, key)
            assert answer is None
            return answer
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue


class ThreadHangs(MemoryAdapter):
    name: ClassVar[str] = "thread-hangs"

    async def list(self, scope: str) -> Any:  # type: ignore[override]
        await asyncio.to_thread(time.sleep, 3600)


class CloseHangs(MemoryAdapter):
    name: ClassVar[str] = "close-hangs"

    async def close(self) -> None:
        await asyncio.to_thread(time.sleep, 3600)


class SlowClose(MemoryAdapter):
    name: ClassVar[str] = "slow-close"

    async def close(self) -> None:
        await asyncio.sleep(0.5)


@iii_skill.hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    return (CallHangs, CallIgnoresItsEnd, ThreadHangs, CloseHangs, SlowClose)
