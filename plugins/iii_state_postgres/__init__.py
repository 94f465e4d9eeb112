"""The adapter `postgres`: PostgreSQL, durable and shared by many hosts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iii_skill import hookimpl
from iii_skill.adapter import LazyAdapter, StateAdapter

if TYPE_CHECKING:
    from .adapter import PostgresAdapter
    from .config import PostgresConfig

__all__ = ["PostgresAdapter", "PostgresConfig", "iii_state_adapters"]


@hookimpl
def iii_state_adapters() -> Iterable[LazyAdapter]:
    """The adapter of this plugin; only a host that uses it imports it."""
    return (LazyAdapter("postgres", _load),)


def _load() -> type[StateAdapter]:
    from .adapter import PostgresAdapter

    return PostgresAdapter


def __getattr__(name: str) -> Any:
    """Import the public names when they are first asked for."""
    if name == "PostgresAdapter":
        return _load()
    if name == "PostgresConfig":
        from .config import PostgresConfig

        return PostgresConfig
    raise AttributeError(f"module 'iii_state_postgres' has no attribute '{name}'")
