"""Set the clock that an adapter reads, for the length of a block."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator
from typing import Any

_Datetime = datetime.datetime


@contextlib.contextmanager
def clock_shifted(seconds: float, *packages: str) -> Iterator[None]:
    """`time.time`, `time.time_ns` and `datetime` tell another time, in the packages' modules too.

    Clocks that only measure (monotonic, the event loop's) go on as they are.
    """
    real_time, real_time_ns = time.time, time.time_ns

    def shifted_time() -> float:
        return real_time() + seconds

    def shifted_time_ns() -> int:
        return real_time_ns() + int(seconds * 1e9)

    class _Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, _Datetime)

    class Shifted(_Datetime, metaclass=_Kind):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return _Datetime.now(tz) + datetime.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return _Datetime.fromtimestamp(shifted_time(), datetime.UTC).replace(tzinfo=None)

    replaced: dict[int, Any] = {
        id(real_time): shifted_time,
        id(real_time_ns): shifted_time_ns,
        id(_Datetime): Shifted,
    }
    undo: list[tuple[Any, str, Any]] = []
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name in ("time", "datetime") or name.partition(".")[0] in packages or name in packages
    ]
    for module in modules:
        for name, value in list(vars(module).items()):
            if id(value) in replaced:
                undo.append((module, name, value))
                setattr(module, name, replaced[id(value)])
    try:
        yield
    finally:
        for module, name, value in undo:
            setattr(module, name, value)
