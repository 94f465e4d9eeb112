"""ServerFollower: follows the changes of all hosts on a connection of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from iii_skill.adapters.shared.change_follower import ChangeFollower
from iii_skill.adapters.shared.connection_keeper import ConnectionKeeper
from iii_skill.errors import AdapterError
from iii_skill.values import Change

C = TypeVar("C", contravariant=True)
P = TypeVar("P")
T = TypeVar("T")

LOOK_AGAIN = 1.0


class ServerLog(Protocol[C, P]):
    """The coroutines of a SharedAdapter that look at the log of changes."""

    timeout: float

    async def newest(self, connection: C) -> P:
        """The end of the log as of now."""

    async def changes_after(self, connection: C, position: P) -> tuple[Sequence[Change], P]:
        """What comes after the position, and where that ends."""

    async def changed(self, connection: C) -> None:
        """Wait until there may be more."""


class ServerFollower(ChangeFollower[P], Generic[C, P]):
    """Follows the changes on a connection of its own."""

    def __init__(self, server_log: ServerLog[C, P], keeper: ConnectionKeeper[C]) -> None:
        super().__init__()
        self.log = server_log
        self._keeper = keeper

    async def newest(self) -> P:
        return await self._use(self.log.newest)

    async def after(self, position: P) -> tuple[Sequence[Change], P]:
        found = await self._use(lambda connection: self.log.changes_after(connection, position))
        if not found[0]:
            await self._use(self.log.changed, more=LOOK_AGAIN)
        return found

    async def failed(self, error: AdapterError) -> None:
        """The keeper makes its connection again."""

    async def release(self) -> None:
        await self._keeper.close()

    async def _use(self, work: Callable[[C], Awaitable[T]], *, more: float = 0.0) -> T:
        return await self._keeper.use(work, seconds=self.log.timeout + more)
