"""Turn: the changes of one key that are on their way, and those that wait behind them.

A change is computed here and swapped in by a script that compares the current bytes first. While one is on
its way, every later call for the key waits, so that calls for a key happen in the order in which they were
made. What waited travels together in the next swap. After a lost race the script gives the current bytes, and
all changes of the swap are computed again on them. A change that keeps or raises counts only when Redis has
confirmed the bytes that it saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import KEEP, Change, ChangeFunction, Keep

from .exchanges import NULL, Routed, garbage, is_json, revision
from .faults import ServerFault, adapter_error
from .layout import Place

if TYPE_CHECKING:
    from .cache import Key

MAX_TOGETHER = 64
MAX_TOGETHER_BYTES = 1024 * 1024


class Step(msgspec.Struct, eq=False):
    """One call for the key: a change, or a get (no change)."""

    answer: Deferred[Any]
    change: ChangeFunction | None
    blind: bool = False
    """It does not look at the old value, so it also works on a broken one."""
    deadline: float = 0.0
    """When it is given up if races go on being lost; 0 for one that left at once."""
    old: bytes | None = None
    new: bytes | Literal[Keep.KEEP] | None = KEEP
    error: Exception | None = None

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


class Turn(Routed, eq=False, kw_only=True):
    """The exchanges of one key, one after the other; it is in `store.turns` until nothing is left to do.

    It starts as a look at the current bytes (`values` is None) or as a swap (`values` are the new ones). An
    exchange that times out or is lost ends the turn, so a reply that comes late finds it ended.
    """

    shows = True
    place: Place
    key: Key
    writes: bool = False
    ended: bool = False
    values: list[bytes] | None = None
    last: bytes | None = None
    _steps: list[Step] = msgspec.field(default_factory=list)
    _waiting: list[Step] = msgspec.field(default_factory=list)

    def add(self, answer: Deferred[Any], change: ChangeFunction | None, *, blind: bool = False) -> None:
        """Queue a call for the key."""
        store = self.store
        deadline = store.loop.time() + store.timeout if self.command else 0.0
        self._waiting.append(Step(answer, change, blind, deadline))

    def begin(self, answer: Deferred[Any], change: ChangeFunction) -> None:
        """The first call for the key: nearly always the only one of its swap, and on bytes that are known."""
        base = self.store.known.get(self.key)
        if base is not None:
            try:
                new = change(base)
            except Exception:
                new = KEEP
            if new is not KEEP:
                self._steps = [Step(answer, change, old=base, new=new)]
                self.writes, self.last, value = True, new, new or b""
                self.values = [value]
                self.command = self.store.swap_one(self.place, self.key[1], base, value)
                self.store.send(self)
                return
        self.add(answer, change)
        self.start()

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
            # The first one left at once, and has the time of its first exchange.
            step.deadline = step.deadline or self.deadline
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
