"""The adapter `redis`: any Redis or Valkey, shared by many hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iii_skill import hookimpl
from iii_skill.adapter import LazyAdapter, StateAdapter

if TYPE_CHECKING:
    from .adapter import RedisAdapter
    from .config import RedisConfig

__all__ = ["RedisAdapter", "RedisConfig", "iii_state_adapters"]


@hookimpl
def iii_state_adapters() -> Iterable[LazyAdapter]:
    """The adapter of this plugin; only a host that uses it imports it."""
    return (LazyAdapter("redis", _load),)


def _load() -> type[StateAdapter]:
    from .adapter import RedisAdapter

    return RedisAdapter


def __getattr__(name: str) -> Any:
    """Import the public names when they are first asked for."""
    if name == "RedisAdapter":
        return _load()
    if name == "RedisConfig":
        from .config import RedisConfig

        return RedisConfig
    raise AttributeError(f"module 'iii_state_redis' has no attribute '{name}'")
