"""Deferred: an adapter's answer that comes later, with no turn of the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """What a plain `def` of an adapter may return instead of a Future; it costs a third of one.

    It is settled once, on the event loop, by `set_result` or `set_exception`. The host listens and is called
    before that returns; everyone else awaits it. It cannot be cancelled.
    """

    __slots__ = ("_done", "_error", "_failed", "_settled", "_value")

    def __init__(self) -> None:
        self._settled = False
        self._done: Callable[[T], object] | None = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """True when it is settled."""
        return self._settled

    def set_result(self, value: T) -> None:
        """Settle it with the answer."""
        if self._settled:
            raise asyncio.InvalidStateError("the answer was given already")
        self._settled = True
        if self._done is None:
            self._value = value
            return
        try:
            self._done(value)
        except Exception as error:
            _report(error)

    def set_exception(self, error: BaseException) -> None:
        """Settle it with the reason why there is no answer."""
        if self._settled:
            raise asyncio.InvalidStateError("the answer was given already")
        self._settled = True
        if self._done is None:
            self._error = error
            return
        try:
            self._failed(error)
        except Exception as trouble:
            _report(trouble)

    def listen(self, done: Callable[[T], object], failed: Callable[[BaseException], object]) -> None:
        """Call one of them as soon as it is settled, now if it is. There is one listener."""
        if not self._settled:
            self._done, self._failed = done, failed
        elif self._error is None:
            done(self._value)
        else:
            failed(self._error)

    def __await__(self) -> Generator[Any, None, T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(value: T) -> None:
            if not future.done():
                future.set_result(value)

        def failed(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)

        self.listen(done, failed)
        return (yield from future)


def _report(error: Exception) -> None:
    context = {"message": "what waited for an adapter's answer failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
