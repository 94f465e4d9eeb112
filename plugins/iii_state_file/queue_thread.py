"""QueueThread: one thread that takes everything queued for it at once, in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

J = TypeVar("J")


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
