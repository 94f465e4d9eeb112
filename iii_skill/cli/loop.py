"""What the commands that serve have in common: their event loop, how they end, how many files they open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

MAX_FILES = 10_240
"""The most that every system grants whose hard limit allows it (macOS takes no more)."""


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop where there is one; what it returns."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def leave(code: int) -> NoReturn:
    """End the process now, whatever task or thread still hangs."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def raise_file_limit() -> None:
    """Every connection is an open file: allow as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
