"""Move every scope of a source into an adapter, in order, and read it back.

Nothing is written into a target that holds state already, unless `merge` is asked for. What cannot be moved
is reported by name, and the rest is moved. At the end every moved scope is read back and compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from iii_skill.adapter import Deferred, StateAdapter, settled
from iii_skill.errors import StoreRefused, ValueRefused
from iii_skill.readable import check_value
from iii_skill.values import Change

from .archive import Damaged
from .sources import Omission, ScopePairs, StateSource

IN_FLIGHT = 256

Progress = Callable[[], None]
"""Called when a scope is done."""


@dataclass
class Report:
    """What was moved, or would be, and what was not."""

    scopes: int = 0
    keys: int = 0
    bytes: int = 0
    overwritten: int = 0
    skipped: list[Omission] = field(default_factory=list)
    damaged: list[Omission] = field(default_factory=list)
    unequal: list[Omission] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when all there was has arrived."""
        return not self.damaged and not self.unequal


async def survey(source: StateSource, scopes: Sequence[str], *, progress: Progress) -> Report:
    """What a move of the scopes would take, without a target."""
    report = _begun(source)
    for scope in scopes:
        await _read(source, scope, report)
        progress()
    return report


async def move(
    source: StateSource, scopes: Sequence[str], target: StateAdapter, *, merge: bool, progress: Progress
) -> Report:
    """Move the scopes; StoreRefused when the target is not empty and `merge` is not asked for."""
    report = _begun(source)
    await require_empty(target, merge=merge)
    for scope in scopes:
        found = await _read(source, scope, report)
        if found is not None:
            before = {key for key, _ in await settled(target.list(scope))} if merge else set()
            report.overwritten += sum(key in before for key, _ in found.pairs)
            await _write(target, found)
            await _compare(target, found, report, merge=merge)
        progress()
    return report


async def require_empty(target: StateAdapter, *, merge: bool) -> None:
    """StoreRefused when there is state in the target and it must not be mixed."""
    scopes = await settled(target.scopes())
    if scopes and not merge:
        raise StoreRefused(
            f"The target holds {len(scopes)} scopes already (for example '{min(scopes)}'); nothing was "
            "written. Choose an empty one, or add --merge to write into it (keys of the source win)."
        )


def _begun(source: StateSource) -> Report:
    return Report(skipped=[*source.skipped], damaged=[*source.damaged])


async def _read(source: StateSource, scope: str, report: Report) -> ScopePairs | None:
    """The pairs that can be moved; the rest is noted in the report."""
    try:
        found = await source.read(scope)
    except Damaged as error:
        report.damaged.append(Omission(scope, str(error)))
        return None
    report.damaged += found.damaged
    pairs: list[tuple[str, bytes]] = []
    for key, value in found.pairs:
        try:
            check_value(value)
        except ValueRefused as error:
            report.damaged.append(Omission(f"{scope}/{key}", error.message))
        else:
            pairs.append((key, value))
    if not pairs:
        return None
    report.scopes += 1
    report.keys += len(pairs)
    report.bytes += sum(len(value) for _, value in pairs)
    return ScopePairs(scope, pairs)


async def _write(target: StateAdapter, found: ScopePairs) -> None:
    """Write the pairs in order; what a plain method has accepted may still be on its way to the store."""
    waiting: list[Deferred[Change] | asyncio.Future[Change]] = []
    for key, value in found.pairs:
        answer = target.set(found.scope, key, value)
        if isinstance(answer, (Deferred, asyncio.Future)):
            waiting.append(answer)
            if len(waiting) >= IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
        else:
            await settled(answer)
    await asyncio.gather(*waiting)


async def _compare(target: StateAdapter, found: ScopePairs, report: Report, *, merge: bool) -> None:
    stored = await settled(target.list(found.scope))
    if merge:
        moved = {key for key, _ in found.pairs}
        stored = [pair for pair in stored if pair[0] in moved]
        same = sorted(stored) == sorted(found.pairs)
    else:
        same = list(stored) == list(found.pairs)
    if not same:
        reason = f"{len(found.pairs)} keys were written, and what was read back ({len(stored)}) differs"
        report.unequal.append(Omission(found.scope, reason))
