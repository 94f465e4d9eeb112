"""Recorder: what happened in an engine since the test began: calls with their answers, events, and notes."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from iii_skill.calls import Failure, Outcome, Result
from iii_skill.state.events import event_type
from iii_skill.values import Change

KEEP = 100_000
"""Of each kind so many are remembered; what is older is forgotten."""
KEEP_BYTES = 256 * 1024 * 1024
"""Of each kind the values may have so many bytes in all."""

_SHOWN = 300
"""Characters of a value that a message for people shows."""


def decoded(data: bytes | None) -> Any:
    """The value of encoded JSON; None where there is none."""
    return None if data is None else msgspec.json.decode(data)


def shown(data: bytes | None) -> str:
    """Encoded JSON for people, cut."""
    text = "null" if data is None else data.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


@dataclass(frozen=True)
class Event:
    """One change of one key."""

    number: int
    """Its place among all that happened in the test."""
    at: float
    """Seconds since the engine was started."""
    scope: str
    key: str
    type: str
    """`state:created`, `state:updated` or `state:deleted`."""
    old: bytes | None
    new: bytes | None

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return len(self.old or b"") + len(self.new or b"")

    @property
    def old_value(self) -> Any:
        """The value before; None also where there was none."""
        return decoded(self.old)

    @property
    def new_value(self) -> Any:
        """The value after; None also where there is none any more."""
        return decoded(self.new)

    def __str__(self) -> str:
        values = f"{shown(self.old)} -> {shown(self.new)}"
        return f"{self.at:8.3f} s  {self.type:13}  {self.scope} / {self.key}  {values}"


@dataclass(eq=False)
class RecordedCall:
    """One call of one function, and what came of it."""

    number: int
    at: float
    function_id: str
    namespace: str | None
    data: bytes
    caller: str
    """The worker that called, by name, or `the engine`: for an HTTP request or an event."""
    caller_id: str | None = None
    invocation_id: str | None = None
    outcome: Outcome | None = None
    seconds: float | None = None
    """How long it took; None while it is not answered."""
    fault: str | None = None
    """The fault that struck it."""
    given_up: bool = False
    """True when nobody waited for the answer any longer."""

    @property
    def size(self) -> int:
        """Bytes of its values."""
        value = self.outcome.value if isinstance(self.outcome, Result) else None
        return len(self.data) + len(value or b"")

    @property
    def payload(self) -> Any:
        """What it was called with."""
        return decoded(self.data)

    @property
    def answered(self) -> bool:
        """True when the function has answered."""
        return self.outcome is not None

    @property
    def result(self) -> Any:
        """What it answered; None also for an error and for nothing."""
        return (
            None if self.outcome is None or isinstance(self.outcome, Failure) else decoded(self.outcome.value)
        )

    @property
    def error(self) -> str | None:
        """The code of the error that it answered; None when it answered none."""
        return self.outcome.code if isinstance(self.outcome, Failure) else None

    def __str__(self) -> str:
        if isinstance(self.outcome, Failure):
            answer = f"{self.outcome.code}: {self.outcome.message}"
        elif self.outcome is not None:
            answer = shown(self.outcome.value)
        else:
            answer = "nobody waits any more" if self.given_up else "not answered"
        fault = "" if self.fault is None else f"  [{self.fault}]"
        return (
            f"{self.at:8.3f} s  {self.function_id}  {shown(self.data)} -> {answer}  (by {self.caller}){fault}"
        )


@dataclass(frozen=True)
class Note:
    """Something else that happened: a worker came or went, a fault struck, the engine was restarted."""

    number: int
    at: float
    text: str

    @property
    def size(self) -> int:
        """Bytes of its text."""
        return len(self.text)

    def __str__(self) -> str:
        return f"{self.at:8.3f} s  {self.text}"


class Recorder:
    """Written on the engine's thread, read from any."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        """Notified whenever something was added, or a call was answered."""
        self.events: deque[Event] = deque()
        self.calls: deque[RecordedCall] = deque()
        self.notes: deque[Note] = deque()
        self.open: dict[int, RecordedCall] = {}
        """Calls that are not answered yet, by number."""
        self.activity = 0
        """Rises with everything that happens."""
        self.listeners: set[Callable[[], None]] = set()
        """Called on the engine's thread with everything that happens."""
        self._held = {id(kept): 0 for kept in (self.events, self.calls, self.notes)}
        self._numbers = itertools.count(1)
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def event(self, change: Change) -> None:
        """A key was changed."""
        number, at = next(self._numbers), self.now()
        kind = event_type(change)
        self._add(self.events, Event(number, at, change.scope, change.key, kind, change.old, change.new))

    def note(self, text: str) -> None:
        """Something happened that is neither a call nor an event."""
        self._add(self.notes, Note(next(self._numbers), self.now(), text))

    def called(
        self,
        function_id: str,
        namespace: str | None,
        data: bytes,
        *,
        caller: str,
        caller_id: str | None = None,
        invocation_id: str | None = None,
    ) -> RecordedCall:
        """A function is called."""
        number, at = next(self._numbers), self.now()
        call = RecordedCall(number, at, function_id, namespace, data, caller, caller_id, invocation_id)
        self.open[number] = call
        self._add(self.calls, call)
        return call

    def answered(self, call: RecordedCall, outcome: Outcome) -> None:
        """A call is answered."""
        with self.changed:
            before = call.size
            call.outcome, call.seconds = outcome, self.now() - call.at
            if self.calls and self.calls[0].number <= call.number:
                self._hold(self.calls, call.size - before)
            self.open.pop(call.number, None)
            self._happened()

    def gave_up(self, which: Callable[[RecordedCall], bool]) -> None:
        """Nobody waits for the answer of these calls any longer."""
        with self.changed:
            for number, call in list(self.open.items()):
                if which(call):
                    call.given_up = True
                    del self.open[number]
            self._happened()

    def history(self) -> list[Event | RecordedCall | Note]:
        """All that happened, in order."""
        with self.changed:
            found: list[Event | RecordedCall | Note] = [*self.events, *self.calls, *self.notes]
        return sorted(found, key=lambda one: one.number)

    def _add(self, kept: deque[Any], what: Event | RecordedCall | Note) -> None:
        with self.changed:
            if len(kept) == KEEP:
                self._forget(kept)
            kept.append(what)
            self._hold(kept, what.size)
            self._happened()

    def _hold(self, kept: deque[Any], size: int) -> None:
        self._held[id(kept)] += size
        while self._held[id(kept)] > KEEP_BYTES and len(kept) > 1:
            self._forget(kept)

    def _forget(self, kept: deque[Any]) -> None:
        self._held[id(kept)] -= kept.popleft().size

    def _happened(self) -> None:
        self.activity += 1
        self.changed.notify_all()
        for listener in tuple(self.listeners):
            listener()
