"""Threads that never keep the process alive: one with a queue, and one for a single blocking function."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

J = TypeVar("J")
T = TypeVar("T")


class QueueThread(Generic[J]):
    """A thread with its queue. `work` gets all waiting jobs as one list and never raises; `end` runs last."""

    def __init__(self, name: str, work: Callable[[list[J]], None], *, end: Callable[[], None]) -> None:
        self._queue: queue.SimpleQueue[J | None] = queue.SimpleQueue()
        self._work = work
        self._end = end
        self._thread = threading.Thread(target=self._run, name=f"iii-state-file {name}", daemon=True)
        self.put = self._queue.put
        self._thread.start()

    def stop(self) -> None:
        """Let it finish what is queued; `join` waits for that."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        while self._turn():
            pass
        self._end()

    def _turn(self) -> bool:
        """Do what is queued; False after the last turn. A function of its own: no job outlives its turn."""
        job = self._queue.get()
        jobs: list[J] = []
        while job is not None:
            jobs.append(job)
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
        if jobs:
            self._work(jobs)
        return job is not None


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking function; unlike the loop's own threads, it does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[J], None], outcome: J) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome = function()
        except BaseException as error:
            _post(loop, settle, future.set_exception, error)
        else:
            _post(loop, settle, future.set_result, outcome)

    threading.Thread(target=run, name="iii-state-file", daemon=True).start()
    return future


def on_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., None]) -> Callable[..., None]:
    """The same function for the threads: it runs on the event loop, soon."""

    def post(*arguments: Any) -> None:
        _post(loop, function, *arguments)

    return post


def _post(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        pass  # The loop is closed: nobody waits any more.
