"""LoopThread: an event loop on a thread of its own, which any other thread may give work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CALL_SECONDS = 30.0


class LoopThread:
    """Runs from `start` to `stop`; leaves no thread, task or descriptor behind."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, within: float = CALL_SECONDS) -> T:
        """What the coroutine gives; TimeoutError after `within` seconds, and then it is cancelled."""
        __tracebackhide__ = True
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "this function runs inside the engine, which would wait for itself: "
                "call the engine from the test, or make the function call through its own worker"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(within)
        except TimeoutError:
            if future.done():
                raise
            raise TimeoutError(f"the engine did not answer within {within:g} s") from None
        finally:
            future.cancel()

    def stop(self) -> None:
        """Cancel what still runs and end the thread; safe to call twice."""
        if self._loop.is_closed():
            return
        self.run(_wind_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _wind_up() -> None:
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    # Connections that came in while the ports were being closed belong to nobody.
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    # The transports tell their ends and close their sockets.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
