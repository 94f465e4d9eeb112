"""Turn: the changes of one key that are on their way, and those that wait behind them.

A change is computed here and swapped in by a script that compares the current bytes first. While one is on
its way, every later call for the key waits, so that calls for a key happen in the order in which they were
made. What waited travels together in the next swap. After a lost race the script gives the current bytes, and
all changes of the swap are computed again on them. A change that keeps or raises counts only when Redis has
confirmed the bytes that it saw.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import KEEP, Change, ChangeFunction, Keep

from .exchanges import NULL, Routed, garbage, is_json, revision
from .layout import Place

if TYPE_CHECKING:
    from .cache import Key
    from .store import Store

MAX_TOGETHER = 64
MAX_TOGETHER_BYTES = 1024 * 1024


class Step:
    """One call for the key: a change, or a get (no change)."""

    __slots__ = ("blind", "change", "deadline", "error", "future", "new", "old")

    def __init__(
        self, future: asyncio.Future[Any], change: ChangeFunction | None, *, blind: bool, deadline: float
    ) -> None:
        self.future = future
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
        if not sound and not self.blind:
            self.error = garbage(key)
        elif self.change is not None:
            if not sound:
                self.old = NULL
            try:
                self.new = self.change(self.old)
            except Exception as error:
                self.error = error

    def settle(self, key: Key, number: int) -> None:
        """Redis has confirmed it."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        elif self.change is None:
            self.future.set_result(self.old)
        else:
            new = self.old if self.new is KEEP else self.new
            self.future.set_result(Change(*key, self.old, new, number))


class Turn:
    """The turn of one key; it lives in `store.turns` as long as something is on its way."""

    def __init__(self, store: Store, place: Place, key: Key) -> None:
        self.store = store
        self.place = place
        self.key = key
        self._waiting: deque[Step] = deque()
        self._steps: list[Step] = []

    def add(self, future: asyncio.Future[Any], change: ChangeFunction | None, *, blind: bool = False) -> None:
        """Queue a call for the key."""
        deadline = self.store.loop.time() + self.store.timeout
        self._waiting.append(Step(future, change, blind=blind, deadline=deadline))

    def start(self) -> None:
        """Begin with the bytes known, or read them."""
        known = self.store.known.get(self.key)
        if known is None:
            self.store.send(Look(self))
        else:
            self.attempt(known, confirmed=False, sound=True)

    def attempt(self, base: bytes | None, *, confirmed: bool, sound: bool) -> None:
        """Compute what is queued on `base` and swap it in."""
        steps = self._steps
        now = self.store.loop.time()
        for step in [step for step in steps if step.future.done() or step.deadline < now]:
            steps.remove(step)
            if not step.future.done():
                step.future.set_exception(
                    AdapterError(
                        f"Other hosts changed key {self.key[1]!r} all the time for {self.store.timeout:g} s; "
                        "nothing was changed, try again."
                    )
                )
        values: list[bytes] = []
        current = base
        for step in steps:
            current, sound = self._compute(step, current, values, sound=sound)
        size = sum(map(len, values))
        while self._waiting and len(steps) < MAX_TOGETHER and size < MAX_TOGETHER_BYTES:
            step = self._waiting.popleft()
            if step.future.done():
                continue
            current, sound = self._compute(step, current, values, sound=sound)
            steps.append(step)
            size += len(values[-1]) if values else 0
        if confirmed and not values:
            for step in steps:
                step.settle(self.key, 0)
            self.finish(current, known=sound)
        elif steps:
            self.store.send(Swap(self, base or b"", values, current))
        else:
            self.finish(None, known=False)

    def _compute(
        self, step: Step, current: bytes | None, values: list[bytes], *, sound: bool
    ) -> tuple[bytes | None, bool]:
        step.run(self.key, current, sound=sound)
        if step.new is KEEP:
            return current, sound
        values.append(step.new or b"")
        return step.new, True

    def settle(self, ids: list[bytes], last: bytes | None) -> None:
        """The swap was carried out: one id for each step that changed something."""
        numbers = iter(ids)
        for step in self._steps:
            step.settle(self.key, 0 if step.new is KEEP else revision(next(numbers)))
        self.finish(last, known=True)

    def finish(self, last: bytes | None, *, known: bool) -> None:
        """Go on with what waits, or end the turn."""
        self._steps = []
        if known and last is not None:
            self.store.known.put(self.key, last)
        else:
            self.store.known.forget(self.key)
        if self._waiting:
            self.start()
        else:
            del self.store.turns[self.key]

    def fail(self, error: AdapterError) -> None:
        """What was on its way failed; what waits goes on, unless the server is away."""
        for step in self._steps:
            if not step.future.done():
                step.future.set_exception(error)
        if isinstance(error, (AdapterTimeout, AdapterUnavailable)):
            reason = "Redis did not answer an earlier call for the key; this one was not sent, try again."
            self.refuse(AdapterUnavailable(reason))
        else:
            self.finish(None, known=False)

    def refuse(self, error: AdapterError) -> None:
        """Nothing of what waits was sent."""
        waiting = [*self._waiting]
        self._waiting.clear()
        self.finish(None, known=False)
        for step in waiting:
            if not step.future.done():
                step.future.set_exception(error)


class Look(Routed):
    """HGET before the first attempt."""

    __slots__ = ("turn",)

    def __init__(self, turn: Turn) -> None:
        store, place = turn.store, turn.place
        super().__init__(store, place.bucket, store.hget(place, turn.key[1]))
        self.turn: Turn | None = turn

    def answered(self, value: bytes | None) -> None:
        """Compute on it."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.attempt(value, confirmed=True, sound=value is None or is_json(value))

    def failed(self, error: AdapterError) -> None:
        """Everything that waited for these bytes fails: nothing was sent."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.refuse(error)


class Swap(Routed):
    """Compare and write."""

    __slots__ = ("last", "turn", "writes")

    def __init__(self, turn: Turn, base: bytes, values: list[bytes], last: bytes | None) -> None:
        store, place = turn.store, turn.place
        super().__init__(store, place.bucket, store.swap(place, turn.key[1], base, values))
        self.turn: Turn | None = turn
        self.last = last
        self.writes = bool(values)

    def answered(self, value: list[Any]) -> None:
        """Done, or lost the race to somebody else's change."""
        turn, self.turn = self.turn, None
        if turn is None:
            return
        if value and value[0] is None:
            current = value[1]
            turn.attempt(current, confirmed=True, sound=current is None or is_json(current))
        else:
            turn.settle(value, self.last)

    def failed(self, error: AdapterError) -> None:
        """Nobody knows, or nothing was changed: the error says which."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.fail(error)
