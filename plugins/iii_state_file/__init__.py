"""The adapter `file`: SQLite in one directory, durable at every acknowledged write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iii_skill import hookimpl
from iii_skill.adapter import LazyAdapter, StateAdapter

if TYPE_CHECKING:
    from .adapter import FileAdapter
    from .config import FileConfig

__all__ = ["FileAdapter", "FileConfig", "iii_state_adapters"]


@hookimpl
def iii_state_adapters() -> Iterable[LazyAdapter]:
    """The adapter of this plugin; only a host that uses it imports it."""
    return (LazyAdapter("file", _load),)


def _load() -> type[StateAdapter]:
    from .adapter import FileAdapter

    return FileAdapter


def __getattr__(name: str) -> Any:
    """Import the public names when they are first asked for."""
    if name == "FileAdapter":
        return _load()
    if name == "FileConfig":
        from .config import FileConfig

        return FileConfig
    raise AttributeError(f"module 'iii_state_file' has no attribute '{name}'")
