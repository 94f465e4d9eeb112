"""SwapWriter: writes batches of swaps, and where a connection was lost, asks what became of them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from iii_skill.adapters.shared.connection_keeper import ConnectionBroken, ConnectionKeeper
from iii_skill.adapters.shared.swap import Outcome, Swap
from iii_skill.errors import FATE_UNKNOWN, AdapterError, AdapterTimeout, AdapterUnavailable

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)
T = TypeVar("T")


class Asks(Protocol[C_contra]):
    """`written` of a SharedAdapter."""

    async def __call__(self, connection: C_contra, *, swaps: Sequence[Swap]) -> Sequence[Outcome] | None:
        """What became of them; None when they were not carried out and never will be."""


class SwapWriter(Generic[C]):
    """One batch is on its way at a time; nothing is written before the fate of the one before it is known."""

    def __init__(
        self,
        keeper: ConnectionKeeper[C],
        *,
        write: Callable[[C, Sequence[Swap]], Awaitable[Sequence[Outcome]]],
        written: Asks[C],
        seconds: float,
    ) -> None:
        """`write` and `written` are those of the adapter."""
        self.keeper = keeper
        self._write = write
        self._written = written
        self._seconds = seconds
        self._unsure: Sequence[Swap] | None = None
        """Changes that a lost connection carried, until it is known what became of them."""

    async def write(self, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        """Write, and where the connection is lost in the middle of that, ask what became of it."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + 2 * self._seconds
        while True:
            # Nothing else is written before it is known what became of the changes of a lost connection: they
            # could still be on their way, and would be done after what is written now.
            if self._unsure is not None:
                unsure = self._unsure
                ask = functools.partial(self._written, swaps=unsure)
                try:
                    outcomes = await self.keeper.use(ask, seconds=self._seconds)
                except (AdapterUnavailable, AdapterTimeout) as error:
                    if unsure is not swaps:
                        raise
                    # Asked again as long as there is time: the caller has no better way to find out.
                    left = limit - loop.time()
                    if left > 0 and await self.keeper.connected(seconds=left):
                        continue
                    raise fate_unknown(error) from None
                self._unsure = None
                if unsure is swaps and outcomes is not None:
                    return outcomes
            try:
                return await self.keeper.use(
                    lambda connection: self._write(connection, swaps), seconds=self._seconds
                )
            except (ConnectionBroken, AdapterTimeout) as error:
                self._unsure = swaps
                if loop.time() > limit:
                    raise fate_unknown(error) from None

    async def other(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Write something else than swaps; AdapterTimeout when it may have happened."""

        async def known(connection: C) -> T:
            if self._unsure is not None and not self._unsure:
                # One of these was lost, and must not happen after this one.
                await self._written(connection, swaps=())
                self._unsure = None
            return await work(connection)

        try:
            return await self.keeper.use(known, seconds=self._seconds)
        except (ConnectionBroken, AdapterTimeout) as error:
            self._unsure = self._unsure or ()
            raise fate_unknown(error) from None


def fate_unknown(error: AdapterError) -> AdapterTimeout:
    """What a caller is told when nobody can say whether its write happened."""
    message = error.message.removesuffix("; try again.").rstrip(".")
    return AdapterTimeout(f"{message}; {FATE_UNKNOWN}.", fate_told=True)
