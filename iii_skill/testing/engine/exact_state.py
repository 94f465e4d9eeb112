"""ExactState: the state of an engine as encoded JSON, byte for byte, for whoever puts it there and looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

from iii_skill.adapter import StateAdapter, settled
from iii_skill.errors import ConfigurationError
from iii_skill.state.scopes import check_scope, is_reserved
from iii_skill.testing.engine.restartable import RestartableHost

Encoded: TypeAlias = Mapping[str, Mapping[str, bytes]]
"""Encoded values by scope and key."""

_encode = msgspec.json.encode


class ExactState:
    """Used on the loop of its host. Writes are those of any caller: they fire events and triggers.

    Neither faults nor the record of calls know of what it does.
    """

    def __init__(self, host: RestartableHost) -> None:
        self._host = host

    async def get(self, scope: str, key: str) -> bytes | None:
        """The value; None when there is none."""
        return await self._call("state::get", {"scope": scope, "key": key})

    async def set(self, scope: str, key: str, value: bytes) -> None:
        """Store a value."""
        await self._call("state::set", {"scope": scope, "key": key, "value": msgspec.Raw(value)})

    async def delete(self, scope: str, key: str) -> None:
        """Remove a key, if it is there."""
        await self._call("state::delete", {"scope": scope, "key": key})

    async def list(self, scope: str) -> dict[str, bytes]:
        """The values of a scope by key, in order of first insertion."""
        check_scope(scope)
        return dict(await settled((await self._adapter()).list(scope)))

    async def scopes(self) -> tuple[str, ...]:
        """The scopes that hold a key, sorted."""
        found = await settled((await self._adapter()).scopes())
        return tuple(sorted(scope for scope in found if not is_reserved(scope)))

    async def load(self, contents: Encoded) -> None:
        """Store many values; others stay."""
        for scope, values in contents.items():
            for key, value in values.items():
                await self.set(scope, key, value)

    async def snapshot(self) -> dict[str, dict[str, bytes]]:
        """All that is there."""
        return {scope: await self.list(scope) for scope in await self.scopes()}

    async def restore(
        self, contents: Encoded, *, same: Callable[[bytes, bytes], bool] = bytes.__eq__
    ) -> None:
        """Make it all as in `contents`; only what differs is written."""
        now = await self.snapshot()
        for scope, values in now.items():
            for key in values.keys() - contents.get(scope, {}).keys():
                await self.delete(scope, key)
        for scope, wanted in contents.items():
            there = now.get(scope, {})
            for key, value in wanted.items():
                if key not in there or not same(there[key], value):
                    await self.set(scope, key, value)

    async def _call(self, function_id: str, payload: object) -> bytes | None:
        return await self._host.unseen(function_id, _encode(payload))

    async def _adapter(self) -> StateAdapter:
        adapter = (await self._host.running()).adapter
        if adapter is None:
            raise ConfigurationError("This engine serves no state: its configuration lists no iii-state.")
        return adapter
