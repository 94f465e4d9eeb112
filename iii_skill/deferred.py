"""Deferred: an adapter's answer that comes later, with no turn of the event loop in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")
_Listener: TypeAlias = "tuple[Any, Callable[[Any, Any], object], Callable[[Any, BaseException], object]]"


def _nobody(_subject: Any, _error: BaseException) -> None:
    """Who hears of a failure before anyone listens."""


class Deferred(msgspec.Struct, Generic[T], eq=False):
    """What a plain `def` of an adapter may return instead of a Future; it costs a third of one.

    It is settled once, on the event loop, by `set_result` or `set_exception`. The host listens and is called
    before that returns; everyone else awaits it, as often as they like. It cannot be cancelled.
    """

    _settled: bool = False
    _value: Any = None
    _error: BaseException | None = None
    _subject: Any = None
    _done: Callable[[Any, Any], object] | None = None
    _failed: Callable[[Any, BaseException], object] = _nobody

    def done(self) -> bool:
        """True when it is settled."""
        return self._settled

    def set_result(self, value: T) -> None:
        """Settle it with the answer."""
        if self._settled:
            raise asyncio.InvalidStateError("the answer was given already")
        self._settled = True
        self._value = value
        done = self._done
        if done is not None:
            try:
                done(self._subject, value)
            except Exception as error:
                _told_in_vain(self._subject, self._failed, error)

    def set_exception(self, error: BaseException) -> None:
        """Settle it with the reason why there is no answer."""
        if self._settled:
            raise asyncio.InvalidStateError("the answer was given already")
        self._settled = True
        self._error = error
        if self._done is not None:
            try:
                self._failed(self._subject, error)
            except Exception as failure:
                _report(failure)

    def listen(
        self, subject: Any, done: Callable[[Any, T], object], failed: Callable[[Any, BaseException], object]
    ) -> None:
        """Call `done(subject, value)` or `failed(subject, error)` as soon as it is settled, now if it is.

        What `done` raises goes to `failed`: an answer that cannot be used is no answer.
        """
        if self._settled:
            if self._error is None:
                _all_done(((subject, done, failed),), self._value)
            else:
                failed(subject, self._error)
        elif self._done is None:
            self._subject, self._done, self._failed = subject, done, failed
        else:
            # Whoever listened first hears first, with a subject of its own.
            first = (self._subject, self._done, self._failed)
            self._subject = (first, (subject, done, failed))
            self._done, self._failed = _all_done, _all_failed

    def __await__(self) -> Generator[Any, None, T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.listen(future, _set_result, _set_exception)
        try:
            return (yield from future)
        finally:
            # The traceback of an error holds this frame: without its locals they are no cycle.
            del future, self


def _set_result(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _all_done(listeners: tuple[_Listener, ...], value: object) -> None:
    for subject, done, failed in listeners:
        try:
            done(subject, value)
        except Exception as error:
            _told_in_vain(subject, failed, error)


def _all_failed(listeners: tuple[_Listener, ...], error: BaseException) -> None:
    for subject, _, failed in listeners:
        try:
            failed(subject, error)
        except Exception as failure:
            _report(failure)


def _told_in_vain(subject: Any, failed: Callable[[Any, BaseException], object], error: Exception) -> None:
    """The listener raised: tell it that there is no answer, or whoever waits behind it never hears."""
    try:
        failed(subject, error)
    except Exception as failure:
        _report(failure)


def _report(error: Exception) -> None:
    """What a listener raises is its own trouble, not the adapter's."""
    context = {"message": "what waited for an adapter's answer failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
