"""Figures: what a part of the host tells of itself to those who watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec


class Histogram(msgspec.Struct, frozen=True):
    """How many values were at most each bound; the last of `counts` were above all of them."""

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


Sample: TypeAlias = tuple[Mapping[str, str], int | float | Histogram]
"""Labels and value."""


class Family(msgspec.Struct, frozen=True):
    """Samples of one name. A counter's name stands without the `_total` that its samples end with."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[Sample]
