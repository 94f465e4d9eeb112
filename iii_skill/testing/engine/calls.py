"""Calls: which functions were called since the test began, with what, by whom, and what they answered."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import Any

from iii_skill.testing.engine.events import ANY, WAIT_SECONDS
from iii_skill.testing.engine.recorder import RecordedCall, Recorder

_LISTED = 40


class Calls:
    """Every call that went through the engine, in order, but those of the test's own `state`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def all(self) -> list[RecordedCall]:
        """All but what SDKs ask the engine itself (`engine::*`)."""
        with self._recorder.changed:
            return [call for call in self._recorder.calls if not call.function_id.startswith("engine::")]

    def of(self, function: str, *, payload: Any = ANY) -> list[RecordedCall]:
        """Those of one function, or of all that fit a pattern (`state::*`)."""
        with self._recorder.changed:
            calls = list(self._recorder.calls)
        return [
            call
            for call in calls
            if fnmatchcase(call.function_id, function) and (payload is ANY or call.payload == payload)
        ]

    def expect(
        self, function: str, *, payload: Any = ANY, count: int = 1, within: float = WAIT_SECONDS
    ) -> RecordedCall:
        """The `count`-th call that fits, once it is answered; AssertionError after `within` seconds."""
        __tracebackhide__ = True
        deadline = time.monotonic() + within
        changed = self._recorder.changed
        with changed:
            while True:
                found = self.answered(function, payload=payload)
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0.0:
                    break
                changed.wait(left)
        raise self.missed(function, payload=payload, count=count, within=within)

    def answered(self, function: str, *, payload: Any = ANY) -> list[RecordedCall]:
        """Those of `of` that were answered."""
        return [call for call in self.of(function, payload=payload) if call.answered]

    def missed(self, function: str, *, payload: Any = ANY, count: int = 1, within: float) -> AssertionError:
        """What says that there were not so many such calls, and which there were."""
        found = self.answered(function, payload=payload)
        lines = "".join(f"\n  {call}" for call in self.all[-_LISTED:])
        wanted = "" if payload is ANY else f" with {payload!r}"
        happened = f"What was called:{lines}" if lines else "Nothing was called."
        text = f"{len(found)} of {count} answered call(s) of {function}{wanted} within {within:g} s."
        return AssertionError(f"{text} {happened}")
