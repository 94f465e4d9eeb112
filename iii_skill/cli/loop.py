"""What the commands that serve have in common: their event loop, how they end, how many files they open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import threading
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


def told_to_stop(*, until_eof: bool) -> asyncio.Future[None]:
    """Done on SIGTERM and SIGINT, and when stdin ends if that is asked for."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if until_eof:

        def read() -> None:
            # A thread: a loop cannot wait for every kind of file.
            with contextlib.suppress(OSError):
                while os.read(0, 65536):
                    pass
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(stop)

        threading.Thread(target=read, name="until-eof", daemon=True).start()
    return stopped


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
