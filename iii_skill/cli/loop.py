"""What the commands that serve have in common: their event loop, where they log, the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop where there is one; what it returns."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def log_to_stderr(level: str) -> None:
    """Lines of the given level and above go to stderr, never to stdout."""
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def settle_collector() -> None:
    """Once ready: what lives as long as the host is not looked at again, a full collection takes 20 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()
