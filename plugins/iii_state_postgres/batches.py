"""Batch: the changes of one turn as the arrays that the function `write` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from iii_skill.adapters.shared import Swap

from .layout import bucket_of, indexed, raw_name


class Batch(NamedTuple):
    """One array for each column: the first of swaps, the last three of values that are replaced at once."""

    buckets: list[int]
    scopes: list[bytes]
    keys: list[bytes]
    long_scopes: list[bytes | None]
    long_keys: list[bytes | None]
    over: list[bool]
    bases: list[bytes | None]
    lasts: list[bytes | None]
    counts: list[int]
    made: list[int | None]
    items: list[int]
    steps: list[int]
    values: list[bytes | None]

    @classmethod
    def of(cls, swaps: Sequence[Swap]) -> Batch:
        """The arrays of these swaps."""
        batch = cls([], [], [], [], [], [], [], [], [], [], [], [], [])
        for number, swap in enumerate(swaps, 1):
            raw_scope = raw_name(swap.scope)
            scope, long_scope = indexed(raw_scope)
            key, long_key = indexed(raw_name(swap.key))
            batch.buckets.append(bucket_of(raw_scope))
            batch.scopes.append(scope)
            batch.keys.append(key)
            batch.long_scopes.append(long_scope)
            batch.long_keys.append(long_key)
            batch.over.append(swap.overwrite)
            batch.bases.append(swap.base)
            batch.lasts.append(swap.values[-1])
            batch.counts.append(len(swap.values))
            batch.made.append(swap.key_made)
            # Nearly always there is one value, which is the last one.
            for step, value in enumerate(swap.values[:-1]):
                batch.items.append(number)
                batch.steps.append(step)
                batch.values.append(value)
        return batch
