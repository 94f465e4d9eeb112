"""The adapter `lmdb`: state in an LMDB environment, flushed to the disk at every answered write."""

from __future__ import annotations

from collections.abc import Iterable

from acme_iii_lmdb.adapter import LmdbAdapter
from iii_skill import StateAdapter, hookimpl

__all__ = ["LmdbAdapter"]


@hookimpl
def iii_state_adapters() -> Iterable[type[StateAdapter]]:
    """The adapter of this plugin."""
    return (LmdbAdapter,)
