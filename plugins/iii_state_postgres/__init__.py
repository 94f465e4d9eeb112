"""The adapter `postgres`: PostgreSQL, durable and shared by many hosts."""

from __future__ import annotations

from collections.abc import Iterable

from iii_skill import hookimpl
from iii_skill.adapter import StateAdapter

from .adapter import PostgresAdapter
from .config import PostgresConfig

__all__ = ["PostgresAdapter", "PostgresConfig"]


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (PostgresAdapter,)
