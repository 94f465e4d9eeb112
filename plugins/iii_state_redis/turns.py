"""Turn: the changes of one key that are on their way, and those that wait behind them.

A change is computed here and swapped in by a script that compares the current bytes first. While one is on
its way, every later call for the key waits, so that calls for a key happen in the order in which they were
made. What waited travels together in the next swap. After a lost race the script gives the current bytes, and
all changes of the swap are computed again on them. A change that keeps or raises counts only when Redis has
confirmed the bytes that it saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import KEEP, Change, ChangeFunction, Keep

from .exchanges import NULL, Routed, garbage, is_json, revision
from .faults import ServerFault, adapter_error
from .layout import Place

if TYPE_CHECKING:
    from .cache import Key
    from .store import Store

MAX_TOGETHER = 64
MAX_TOGETHER_BYTES = 1024 * 1024


class Step:
    """One call for the key: a change, or a get (no change)."""

    __slots__ = ("answer", "blind", "change", "deadline", "error", "new", "old")

    def __init__(
        self, answer: Deferred[Any], change: ChangeFunction | None, *, blind: bool, deadline: float
    ) -> None:
        self.answer = answer
        self.change = change
        self.blind = blind
        """It does not look at the old value, so it also works on a broken one."""
        self.deadline = deadline
        self.old: bytes | None = None
        self.new: bytes | Literal[Keep.KEEP] | None = KEEP
        self.error: Exception | None = None

    def run(self, key: Key, old: bytes | None, *, sound: bool) -> None:
        """Compute it on `old`."""
        self.old, self.new, self.error = old, KEEP, None
        if not sound:
            if not self.blind:
                self.error = garbage(key)
                return
            self.old = NULL
        if self.change is not None:
            try:
                self.new = self.change(self.old)
            except Exception as error:
                self.error = error

    def settle(self, key: Key, number: int) -> None:
        """Redis has confirmed it."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        elif self.change is None:
            self.answer.set_result(self.old)
        else:
            new = self.old if self.new is KEEP else self.new
            self.answer.set_result(Change(key[0], key[1], self.old, new, number))


class Turn(Routed):
    """The exchanges of one key, one after the other; it is in `store.turns` until nothing is left to do.

    It starts as a look at the current bytes (`values` is None) or as a swap (`values` are the new ones). An
    exchange that times out or is lost ends the turn, so a reply that comes late finds it ended.
    """

    __slots__ = ("_steps", "_waiting", "ended", "key", "last", "place", "values", "writes")
    shows = True

    def __init__(self, store: Store, place: Place, key: Key) -> None:
        self.store = store
        self.bucket = place.bucket
        self.redirects = 0
        self.place = place
        self.key = key
        self.writes = False
        self.ended = False
        self.values: list[bytes] | None = None
        self.last: bytes | None = None
        self._steps: list[Step] = []
        self._waiting: list[Step] = []

    def add(self, answer: Deferred[Any], change: ChangeFunction | None, *, blind: bool = False) -> None:
        """Queue a call for the key."""
        store = self.store
        self._waiting.append(Step(answer, change, blind=blind, deadline=store.loop.time() + store.timeout))

    def start(self) -> None:
        """Begin with the bytes known, or read them."""
        known = self.store.known.get(self.key)
        if known is None:
            self.values = None
            self.writes = False
            self.command = self.store.hget(self.place, self.key[1])
            self.store.send(self)
        else:
            self._attempt(known, confirmed=False, sound=True)

    def _attempt(self, base: bytes | None, *, confirmed: bool, sound: bool) -> None:
        """Compute what is queued on `base` and swap it in."""
        current, values = base, []
        size = 0
        steps = self._steps = self._due() if self._steps else []
        for step in steps:
            step.run(self.key, current, sound=sound)
            if step.new is not KEEP:
                current, sound = step.new, True
                values.append(current or b"")
        waiting, self._waiting = self._waiting, []
        for number, step in enumerate(waiting):
            if len(steps) >= MAX_TOGETHER or size >= MAX_TOGETHER_BYTES:
                self._waiting = waiting[number:]
                break
            if step.answer.done():
                continue
            step.run(self.key, current, sound=sound)
            steps.append(step)
            if step.new is not KEEP:
                current, sound = step.new, True
                values.append(current or b"")
                size += len(values[-1])
        if (confirmed and not values) or not steps:
            for step in steps:
                step.settle(self.key, 0)
            self._finish(current if sound else None)
            return
        self.values, self.last, self.writes = values, current, bool(values)
        self.command = self.store.swap(self.place, self.key[1], base or b"", values)
        self.store.send(self)

    def _due(self) -> list[Step]:
        """The steps of a lost race that still have somebody who waits, and time."""
        steps = [step for step in self._steps if not step.answer.done()]
        now = self.store.loop.time()
        for step in steps:
            if step.deadline < now:
                step.answer.set_exception(
                    AdapterError(
                        f"Other hosts changed key {self.key[1]!r} all the time for {self.store.timeout:g} s; "
                        "nothing was changed, try again."
                    )
                )
        return [step for step in steps if not step.answer.done()]

    def answered(self, value: Any) -> None:
        """The current bytes; or the swap is done; or the race was lost and these are the current bytes."""
        if self.ended:
            return
        if self.values is None:
            self._attempt(value, confirmed=True, sound=value is None or is_json(value))
        elif value and value[0] is None:
            current = value[1]
            self._attempt(current, confirmed=True, sound=current is None or is_json(current))
        else:
            ids = iter(value)
            for number, step in enumerate(self._steps):
                made = None if step.new is KEEP else next(ids)
                if type(made) is ServerFault:
                    # This one did not happen, and the later ones were computed on what it would have written.
                    self._steps = self._steps[number:]
                    self.failed(adapter_error(made))
                    return
                step.settle(self.key, 0 if made is None else revision(made))
            self._finish(self.last)

    def failed(self, error: AdapterError) -> None:
        """What was on its way failed; what waits goes on, unless the server is away."""
        if self.ended:
            return
        steps, self._steps = self._steps, []
        if self.values is None:
            steps, self._waiting = self._waiting, []
        for step in steps:
            if not step.answer.done():
                step.answer.set_exception(error)
        waiting: list[Step] = []
        if isinstance(error, (AdapterTimeout, AdapterUnavailable)):
            waiting, self._waiting = self._waiting, []
        self._finish(None)
        for step in waiting:
            if not step.answer.done():
                step.answer.set_exception(
                    AdapterUnavailable(
                        "Redis did not answer an earlier call for the key; this one was not sent, try again."
                    )
                )

    def _finish(self, last: bytes | None) -> None:
        """Go on with what waits, or end the turn; `last` is what the key holds, None when not known."""
        self._steps = []
        if last is not None:
            self.store.known.put(self.key, last)
        else:
            self.store.known.forget(self.key)
        if self._waiting:
            self.redirects = 0
            self.start()
        else:
            self.ended = True
            del self.store.turns[self.key]
