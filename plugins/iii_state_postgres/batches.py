"""Batch: the changes of one turn as the arrays that the function `write` takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from iii_skill.adapter import Clock
from iii_skill.adapters.shared import Key, Outcome, Overtaken, Swap, Written

from .current_values import CurrentValues
from .layout import indexed, place_of, raw_name


class Batch:
    """The swaps in the order of their buckets, and one array for each column of `write`."""

    def __init__(self, swaps: Sequence[Swap], clock: Clock, moment: int | None = None) -> None:
        """The clock decides which keys are over; a moment that is given is that of several batches."""
        places = [place_of(swap.scope) for swap in swaps]
        self.ids = sorted({place.bucket for place in places})
        self.order: Sequence[int] = range(len(swaps))
        """Which swap stands at each place."""
        if len(self.ids) > 1:
            self.order = sorted(self.order, key=lambda number: places[number].bucket)
            swaps = [swaps[number] for number in self.order]
            places = [places[number] for number in self.order]
        self.swaps = swaps
        numbers = {bucket: number for number, bucket in enumerate(self.ids, 1)}
        self.slots = [numbers[place.bucket] for place in places]
        """Which of `ids` is that of each swap, from 1 on."""
        keys = [indexed(raw_name(swap.key)) for swap in swaps]
        long_keys = [long for _, long in keys]
        long_scopes = [place.long_scope for place in places]
        several = any(len(swap.values) > 1 for swap in swaps)
        # What is empty counts as a column of NULL.
        self.arrays = (
            self.ids,
            self.slots,
            [place.scope for place in places],
            [key for key, _ in keys],
            long_scopes if any(long_scopes) else [],
            long_keys if any(long_keys) else [],
            [swap.overwrite for swap in swaps],
            [swap.base for swap in swaps],
            [swap.values[-1] for swap in swaps],
            [len(swap.values) for swap in swaps] if several else [],
            *(_steps(swaps) if several else ([], [], [])),
            [swap.fresh for swap in swaps],
            clock.now_ms(),
            ahead_us(clock),
            moment,
        )

    def outcomes(self, row: Any, current: CurrentValues) -> Sequence[Outcome]:
        """What `write` gave, in the order of the swaps as they came; `current` is told of it."""
        firsts, olds, lost, held = row
        overtaken = dict(zip(lost or (), held or (), strict=True))
        found = iter(olds or ())
        after = list(firsts)
        written: list[list[tuple[Key, bytes | None]]] = [[] for _ in firsts]
        made: list[Outcome] = []
        for number, (swap, slot) in enumerate(zip(self.swaps, self.slots, strict=True), 1):
            if overtaken and number in overtaken:
                made.append(Overtaken(overtaken[number]))
                continue
            first = after[slot - 1]
            after[slot - 1] = end = first + len(swap.values)
            made.append(Written(range(first, end), next(found) if swap.overwrite else None))
            written[slot - 1].append(((swap.scope, swap.key), swap.values[-1]))
        for bucket, first, end, pairs in zip(self.ids, firsts, after, written, strict=True):
            if pairs:
                current.was_written(bucket, first, end - 1, pairs)
        if len(self.ids) == 1:
            return made
        outcomes = made.copy()
        for number, outcome in zip(self.order, made, strict=True):
            outcomes[number] = outcome
        return outcomes


def ahead_us(clock: Clock) -> int:
    """How far the clock is before that of the server, if a test moved it."""
    return math.ceil(clock.ahead * 1_000_000)


def _steps(swaps: Sequence[Swap]) -> tuple[list[int], list[int], list[bytes | None]]:
    """All values but the last ones: of which swap, which one, and the value."""
    items: list[int] = []
    numbers: list[int] = []
    values: list[bytes | None] = []
    for item, swap in enumerate(swaps, 1):
        for number, value in enumerate(swap.values[:-1]):
            items.append(item)
            numbers.append(number)
            values.append(value)
    return items, numbers, values
