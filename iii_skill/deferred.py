"""Deferred: an adapter's answer that comes later, with no turn of the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """What a plain `def` of an adapter may return instead of a Future; it costs a third of one.

    It is settled once, on the event loop, by `set_result` or `set_exception`. The host listens and is called
    before that returns; everyone else awaits it, as often as they like. It cannot be cancelled.
    """

    __slots__ = ("_done", "_error", "_failed", "_settled", "_value")

    _value: T
    _failed: Callable[[BaseException], object]

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
        self._value = value
        if self._done is not None:
            _tell(self._done, value)

    def set_exception(self, error: BaseException) -> None:
        """Settle it with the reason why there is no answer."""
        if self._settled:
            raise asyncio.InvalidStateError("the answer was given already")
        self._settled = True
        self._error = error
        if self._done is not None:
            _tell(self._failed, error)

    def listen(self, done: Callable[[T], object], failed: Callable[[BaseException], object]) -> None:
        """Call one of them as soon as it is settled, now if it is."""
        if not self._settled:
            if self._done is not None:
                done, failed = _both(self._done, done), _both(self._failed, failed)
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


def _tell(listener: Callable[[Any], object], outcome: object) -> None:
    """Call a listener; what it raises is its own trouble, not the adapter's."""
    try:
        listener(outcome)
    except Exception as error:
        context = {"message": "what waited for an adapter's answer failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def _both(first: Callable[[Any], object], second: Callable[[Any], object]) -> Callable[[Any], object]:
    def tell(outcome: object) -> None:
        _tell(first, outcome)
        second(outcome)

    return tell
