"""Scans: queries over many rows that are queued or run, each behind the writes accepted before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from iii_state_file.flights import Flights
from iii_state_file.reader import LIST, Scan


class Scans:
    """Everyone who waits for a scan, until its rows are there."""

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._waiting: set[asyncio.Future[Any]] = set()

    def ask(self, query: str, parameters: tuple[str, ...]) -> asyncio.Future[Any]:
        """The rows of one moment, which is after every write that was accepted before this call."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        self._flights.follow(Scan(future, query, parameters, query is not LIST))
        return future

    def done(self, future: asyncio.Future[Any], rows: Sequence[Any]) -> None:
        """Its rows are there."""
        self._waiting.discard(future)
        if not future.done():
            future.set_result(rows)

    def abandon(self) -> list[asyncio.Future[Any]]:
        """Forget all; gives those who waited."""
        waiting = [*self._waiting]
        self._waiting.clear()
        return waiting
