"""Events: the changes of state since the test began, and waiting for one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final

from iii_skill.testing.engine.recorder import Event, Recorder

WAIT_SECONDS = 5.0
_LISTED = 40

ANY: Final[Any] = object()
"""Any value."""


class Events:
    """All events, in order: `list(iii_engine.events)`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def all(self) -> list[Event]:
        """The events so far."""
        with self._recorder.changed:
            return list(self._recorder.events)

    def of(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        type: str | None = None,
        value: Any = ANY,
        after: Event | int | None = None,
        where: Callable[[Event], bool] | None = None,
    ) -> list[Event]:
        """Those that fit; None is any, `value` is the new value, `after` an event that came before, or its
        number.
        """
        first = 0 if after is None else _number(after)
        newer = itertools.takewhile(lambda event: event.number > first, reversed(self.all))
        found = [
            event
            for event in newer
            if scope in (None, event.scope)
            and key in (None, event.key)
            and type in (None, event.type)
            and (value is ANY or event.new_value == value)
            and (where is None or where(event))
        ]
        return found[::-1]

    def expect(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        type: str | None = None,
        value: Any = ANY,
        after: Event | int | None = None,
        where: Callable[[Event], bool] | None = None,
        within: float = WAIT_SECONDS,
    ) -> Event:
        """The first that fits, as in `of`, since the test began; waits for it up to `within` seconds.

        AssertionError says what did happen.
        """
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        changed = self._recorder.changed
        with changed:
            while True:
                found = self.of(scope=scope, key=key, type=type, value=value, after=after, where=where)
                if found:
                    return found[0]
                left = deadline - time.monotonic()
                if left <= 0.0:
                    break
                changed.wait(left)
        raise self.missed(scope=scope, key=key, type=type, value=value, after=after, within=within)

    def missed(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        type: str | None = None,
        value: Any = ANY,
        after: Event | int | None = None,
        within: float,
    ) -> AssertionError:
        """What says that no such event came, and which did."""
        wanted = {"scope": scope, "key": key, "type": type} | ({} if value is ANY else {"value": value})
        text = ", ".join(f"{name}={part!r}" for name, part in wanted.items() if part is not None)
        if after is not None:
            text += f" after event {_number(after)}"
        return AssertionError(f"no event ({text or 'of any kind'}) within {within:g} s. {self._happened()}")

    def _happened(self) -> str:
        events = self.all
        unanswered = [str(call) for call in self._recorder.open.copy().values()]
        waiting = "".join(f"\n  {text}" for text in unanswered[:_LISTED])
        still = f"\nNot answered yet:{waiting}" if unanswered else ""
        if not events:
            return f"There was none.{still}"
        lines = "".join(f"\n  {event}" for event in events[-_LISTED:])
        first = f" (the last {_LISTED} of {len(events)})" if len(events) > _LISTED else ""
        return f"What did happen{first}:{lines}{still}"


def _number(after: Event | int) -> int:
    return after if isinstance(after, int) else after.number
