"""A plugin whose adapter raises at `open` what no contract names."""

from __future__ import annotations

from typing import Any, ClassVar

from iii_state_memory import MemoryAdapter

import iii_skill
from iii_skill.values import Durability


class Unopenable(MemoryAdapter):
    name: ClassVar[str] = "unopenable"
    durability: ClassVar[Durability] = Durability.DISK
    closed: ClassVar[int] = 0

    async def open(self, config: Any) -> None:
        raise ValueError("the shelf is not there")

    async def close(self) -> None:
        type(self).closed += 1


@iii_skill.hookimpl
def iii_state_adapters() -> list[type[iii_skill.StateAdapter]]:
    """The adapter of this plugin."""
    return [Unopenable]
