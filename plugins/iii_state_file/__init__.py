"""The adapter `file`: SQLite in one directory, durable at every acknowledged write."""

from __future__ import annotations

from collections.abc import Iterable

from iii_skill import StateAdapter, hookimpl
from iii_state_file.adapter import FileAdapter
from iii_state_file.config import FileConfig


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (FileAdapter,)


__all__ = ["FileAdapter", "FileConfig", "iii_state_adapters"]
