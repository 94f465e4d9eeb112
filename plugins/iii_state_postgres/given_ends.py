"""GivenEnds: the ends that keys are given in one turn of the event loop, as one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from iii_skill.adapters.shared import TurnBatches
from iii_skill.errors import AdapterError, AdapterTimeout

from .layout import indexed, place_of, raw_name

Give: TypeAlias = Callable[[Sequence[object]], Awaitable[Sequence[int] | None]]
"""Runs the statement with these arrays; gives the places of the keys that were there, from 1 on."""


class GivenEnd(msgspec.Struct, eq=False):
    """The end of one key, and whether the key was there."""

    scope: str
    key: str
    at_ms: int | None
    found: asyncio.Future[bool]


class GivenEnds:
    """Each key is at most once in a batch: its other calls wait for the answer."""

    def __init__(self, give: Give) -> None:
        self._give = give
        self._batches: TurnBatches[GivenEnd] = TurnBatches(self._send)

    async def give(self, scope: str, key: str, at_ms: int | None) -> bool:
        """Give the key an end, or take it away; False when there is no such key."""
        end = GivenEnd(scope, key, at_ms, asyncio.get_running_loop().create_future())
        self._batches.add(end)
        return await end.found

    async def close(self) -> None:
        """Send nothing more."""
        for end in await self._batches.abort():
            end.found.cancel()

    async def _send(self, ends: Sequence[GivenEnd]) -> None:
        places = [place_of(end.scope) for end in ends]
        arrays: list[Any] = [
            sorted({place.bucket for place in places}),
            [place.bucket for place in places],
            [place.scope for place in places],
            [indexed(raw_name(end.key))[0] for end in ends],
            [end.at_ms for end in ends],
        ]
        try:
            found = set(await self._give(arrays) or ())
        except AdapterError as error:
            _failed(ends, error)
        except asyncio.CancelledError:
            _failed(ends, AdapterTimeout("The adapter was closed; the fate of the call is unknown."))
            raise
        else:
            for number, end in enumerate(ends, 1):
                if not end.found.done():
                    end.found.set_result(number in found)


def _failed(ends: Sequence[GivenEnd], error: AdapterError) -> None:
    for end in ends:
        if not end.found.done():
            end.found.set_exception(error)
