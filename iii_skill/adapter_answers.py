"""Wait for an adapter's answers without a task per call, and keep the calls for one key in order."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from iii_skill.deferred import Deferred
from iii_skill.errors import AdapterTimeout
from iii_skill.values import Change

Done: TypeAlias = Callable[[Any, Any], None]
Failed: TypeAlias = Callable[[Any, BaseException], None]
Lane: TypeAlias = tuple[str, str]


class AdapterAnswers:
    """Runs coroutines one after another per lane (scope and key); what is under way only gets a callback."""

    def __init__(self) -> None:
        self._waiting: dict[Lane, deque[tuple[Awaitable[Any], Any, Done, Failed]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wait(
        self, answer: Awaitable[Any], lane: Lane | None, subject: Any, done: Done, failed: Failed
    ) -> None:
        """Call `done` or `failed` with the subject and the outcome, later; lane None is not ordered."""
        if type(answer) is Deferred:
            answer.listen(subject, done, failed)
        elif asyncio.isfuture(answer):
            answer.add_done_callback(lambda future: _settle(future, subject, done, failed))
        elif lane is None:
            self._start(_run(answer, subject, done, failed))
        elif lane in self._waiting:
            self._waiting[lane].append((answer, subject, done, failed))
        else:
            self._waiting[lane] = deque([(answer, subject, done, failed)])
            self._start(self._drain(lane))

    def settle(self, answer: Any, lane: Lane | None, subject: Any, done: Done, failed: Failed) -> None:
        """As `wait`, but an answer that is there already is told at once."""
        kind = type(answer)
        if kind is Change or kind is bytes:
            # What most adapters that answer at once give: `isawaitable` takes its time.
            _tell(answer, subject, done, failed)
        elif kind is Deferred or inspect.isawaitable(answer):
            self.wait(answer, lane, subject, done, failed)
        else:
            _tell(answer, subject, done, failed)

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def passed(self) -> None:
        """Wait for what is under way now; what comes meanwhile is not waited for."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def abandon(self) -> int:
        """Refuse the calls that the adapter has not answered and wait for them no longer; how many."""
        queued = sum(len(calls) for calls in self._waiting.values())
        count = len(self._tasks) - len(self._waiting) + queued
        for task in self._tasks:
            task.cancel()
        return count

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, lane: Lane) -> None:
        queue = self._waiting[lane]
        try:
            while queue:
                await _run(*queue[0])
                queue.popleft()
        except asyncio.CancelledError:
            for answer, subject, _, failed in list(queue)[1:]:
                if asyncio.iscoroutine(answer):
                    answer.close()  # It never began.
                failed(subject, _abandoned())
            raise
        finally:
            del self._waiting[lane]


async def _run(answer: Awaitable[Any], subject: Any, done: Done, failed: Failed) -> None:
    try:
        value = await answer
    except asyncio.CancelledError:
        failed(subject, _abandoned())
        raise
    except Exception as error:
        failed(subject, error)
    else:
        _tell(value, subject, done, failed)


def _abandoned() -> AdapterTimeout:
    return AdapterTimeout("The host ended before the store had answered.")


def _settle(future: asyncio.Future[Any], subject: Any, done: Done, failed: Failed) -> None:
    if future.cancelled():
        failed(subject, _abandoned())
    elif (error := future.exception()) is not None:
        failed(subject, error)
    else:
        _tell(future.result(), subject, done, failed)


def _tell(value: Any, subject: Any, done: Done, failed: Failed) -> None:
    """What `done` raises goes to `failed`: an answer that cannot be used is no answer."""
    try:
        done(subject, value)
    except Exception as error:
        failed(subject, error)
