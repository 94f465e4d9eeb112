"""A plugin whose adapter lists keys sorted: a mistake for the kit to find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from support.wrong_adapters import SortsKeys

from iii_skill import StateAdapter, hookimpl


class SortingAdapter(SortsKeys):
    name: ClassVar[str] = "sorting"


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (SortingAdapter,)
