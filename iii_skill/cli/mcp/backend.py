"""Calls: one connection for all tools, made when it is needed and again after it broke."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from iii_skill.cli.mcp.errors import ToolError
from iii_skill.cli.reach import Backend, Reach, Stopped, backend, encode, may_be_called
from iii_skill.errors import IiiSkillError, InvocationError


class BackendCalls:
    """Calls functions of the host, the engine or the store that the options name."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._opened: Backend | None = None
        self._opening = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    @property
    def holds_store(self) -> bool:
        """True while a store is open in this process."""
        return self._opened is not None and bool(self._reach.store)

    async def call(
        self, function_id: str, *, writes: bool = False, timeout: float = 30.0, **payload: object
    ) -> bytes | None:
        """The encoded result; ToolError with one sentence."""
        try:
            opened = await self._backend()
            return await opened.call(function_id, encode(**payload), timeout=timeout)
        except Stopped as error:
            raise ToolError(error.message + ("" if error.fix is None else f" {error.fix}")) from None
        except InvocationError as error:
            if error.code == "function_not_found":
                raise ToolError(
                    f"{opened.label} does not offer {function_id}: `iii-skill serve` and `attach` do."
                ) from None
            if error.code == "not_connected":
                kept = " It is not known whether it was written: read it." if writes else " Call again."
                raise ToolError(f"The connection broke before {opened.label} answered.{kept}") from None
            raise ToolError(f"{error.code}: {error.message}") from None
        except IiiSkillError as error:
            raise ToolError(f"{error.code}: {error.message}") from None

    async def _backend(self) -> Backend:
        async with self._opening:
            if self._opened is not None and may_be_called(self._opened):
                return self._opened
            await self.close()
            # Its options may name a store: it stays open as long as this server runs.
            self._opened = await self._stack.enter_async_context(backend(self._reach))
            print(f"[{self._opened.label}]", file=sys.stderr, flush=True)
            return self._opened

    async def close(self) -> None:
        """Leave the host, or close the store."""
        self._opened = None
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        await stack.aclose()
