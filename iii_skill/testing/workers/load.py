"""Load: pieces of work that run at once, and how many of them were done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

PAUSE_SECONDS = 0.05
"""After a refusal: an engine that starts again is not asked a thousand times."""
REST_SECONDS = 0.005


def succeeds(work: Callable[[], object]) -> bool:
    """True when the work was done; False when it was refused."""
    try:
        work()
    except Exception:
        return False
    return True


def at_once(work: Callable[[], object], count: int) -> int:
    """Do the work so often at the same time; how many were done."""
    gate = threading.Barrier(count)

    def one() -> bool:
        gate.wait()
        return succeeds(work)

    with ThreadPoolExecutor(count) as pool:
        return sum(future.result() for future in [pool.submit(one) for _ in range(count)])


def ended(work: Callable[[], object], seconds: float) -> bool | None:
    """Whether the work was done; None when it has not ended by then."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(succeeds(work)), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


class Load:
    """Work that goes on in several threads until it is stopped, each piece counted."""

    def __init__(self, work: Callable[[], object], *, threads: int = 4, most: int = 100) -> None:
        """When `most` pieces were done it rests until `go_on`."""
        self._work = work
        self._most = most
        self._enough = most
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.done = 0
        self.refused = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more, and wait for what was begun."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """As many again, from now on: however many were done meanwhile, there is more to do."""
        with self._lock:
            self._enough = self.done + self._most

    def wait(self, done: int, seconds: float) -> bool:
        """Wait until so many were done; False when they were not by then."""
        deadline = time.monotonic() + seconds
        while self.done < done and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.done >= done

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self.done >= self._enough:
                self._stopped.wait(REST_SECONDS)
                continue
            good = succeeds(self._work)
            with self._lock:
                self.done += good
                self.refused += not good
            if not good:
                time.sleep(PAUSE_SECONDS)
