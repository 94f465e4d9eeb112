"""The adapter `redis`: any Redis or Valkey, shared by many hosts."""

from __future__ import annotations

from collections.abc import Iterable

from iii_skill import hookimpl
from iii_skill.adapter import StateAdapter

from .adapter import RedisAdapter
from .config import RedisConfig

__all__ = ["RedisAdapter", "RedisConfig"]


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (RedisAdapter,)
