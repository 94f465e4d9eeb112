"""Many writes in one transaction of PostgreSQL, on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iii_skill.adapter import Clock, Write
from iii_skill.adapters.shared import Swap

from .batches import Batch
from .layout import place_of
from .session import Session
from .statements import Statements

AT_ONCE = 1000
"""Writes in one statement: each has to end within the time-out."""


def swap_of(write: Write) -> Swap:
    """The same write as one of a batch."""
    overwrite = not write.if_absent or write.value is None
    return Swap(write.scope, write.key, None, (write.value,), overwrite, fresh=True)


async def write_together(
    session: Session, statements: Statements, swaps: Sequence[Swap], clock: Clock
) -> int:
    """Make all swaps that can be in one commit; how many were."""
    made = 0
    async with session.transaction():
        # All at once and in one order, as every batch does: no two writers wait for each other.
        buckets = sorted({place_of(swap.scope).bucket for swap in swaps})
        await session.fetch(statements.lock, buckets)
        ((moment,),) = await session.fetch(statements.moment)
        ((writer,),) = await session.fetch(statements.register)
        for number, some in enumerate(_batched(swaps), 1):
            arrays = Batch(some, clock, moment).arrays
            ((_, _, lost, _),) = await session.fetch(statements.write, writer, 0, number, *arrays)
            made += len(some) - len(lost or ())
        await session.fetch(statements.unregister, writer)
    return made


def _batched(swaps: Sequence[Swap]) -> Iterable[Sequence[Swap]]:
    for start in range(0, len(swaps), AT_ONCE):
        yield swaps[start : start + AT_ONCE]
