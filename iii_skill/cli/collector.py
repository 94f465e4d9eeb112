"""The garbage collector of a command: off where nothing becomes garbage, quiet while a host serves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Imports and the start of a host leave no garbage; looking for it takes a good part of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Once ready: what lives as long as the host is not looked at again, a full collection takes 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()
