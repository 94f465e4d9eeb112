"""WireState: the state of an engine that runs elsewhere, through its functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from iii_skill.errors import InvocationError
from iii_skill.testing.engine.absent import not_here
from iii_skill.testing.engine.exact_state import ExactState

_PAGE = {"limit": 1000, "max_bytes": 8_000_000}


class _Groups(msgspec.Struct):
    groups: list[str]


class _Page(msgspec.Struct):
    entries: list[tuple[str, msgspec.Raw]]
    next_cursor: str | None = None


class WireState(ExactState):
    """As the state of an own engine, where the engine gives keys together with their values."""

    def __init__(self, call: Callable[[str, bytes], Awaitable[bytes | None]]) -> None:
        self._send = call

    async def list(self, scope: str) -> dict[str, bytes]:
        """The values of a scope by key."""
        found: dict[str, bytes] = {}
        asked: dict[str, object] = {"scope": scope, **_PAGE}
        while True:
            try:
                answer = await self._call("state::list_entries", asked)
            except InvocationError as error:
                if error.code != "function_not_found":
                    raise
                not_here("A list of keys with values, which this engine does not give,")
            page = msgspec.json.decode(answer or b"", type=_Page)
            found.update((key, bytes(value)) for key, value in page.entries)
            if page.next_cursor is None:
                return found
            asked["cursor"] = page.next_cursor

    async def scopes(self) -> tuple[str, ...]:
        """The scopes that hold a key, sorted."""
        answer = await self._call("state::list_groups", {})
        groups = msgspec.json.decode(answer or b"", type=_Groups).groups
        # Also those that were emptied are listed.
        return tuple(sorted([scope for scope in groups if await self.list(scope)]))

    async def _call(self, function_id: str, payload: object) -> bytes | None:
        return await self._send(function_id, msgspec.json.encode(payload))
