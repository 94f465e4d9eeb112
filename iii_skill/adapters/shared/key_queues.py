"""KeyQueues: one change per key on its way to the store, and the calls that wait behind it.

A change is computed here and swapped in by the store, which compares the current bytes first. While a swap is
on its way, every later call for the key waits, so that calls for a key happen in the order in which they were
made. What waited travels together in the next swap. After a lost race the store tells the current bytes, and
all changes of the swap are computed again on them. A change that keeps or raises counts only when the store
has confirmed the bytes that it saw.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from iii_skill.adapter import Deferred
from iii_skill.adapters.shared.known_values import NULL, Key, KnownValues, broken_value, is_json
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import KEEP, Change, ChangeFunction, Keep

log = logging.getLogger(__name__)

MAX_TOGETHER = 64
MAX_TOGETHER_BYTES = 1024 * 1024


class QueuedCall(msgspec.Struct, eq=False):
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
    asked: bool = False
    """What the store is asked for was asked after it was called, so the answer counts for it."""
    work: Callable[[], Coroutine[Any, Any, Any]] | None = None
    """What is done for the key while nothing else of it is on its way; its outcome is the answer."""

    def run(self, key: Key, old: bytes | None, *, sound: bool) -> None:
        """Compute it on `old`."""
        self.old, self.new, self.error = old, KEEP, None
        if not sound:
            # A broken value is an error for whoever looks at it, and null for whoever replaces it.
            if not self.blind:
                self.error = broken_value(key)
                return
            self.old = NULL
        if self.change is not None:
            try:
                self.new = self.change(self.old)
            except Exception as error:
                # Without the frames, which hold the call: only the cyclic collector would free them.
                self.error = error.with_traceback(None)

    def settle(self, key: Key, revision: int) -> None:
        """The store has confirmed it."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        elif self.change is None:
            self.answer.set_result(self.old)
        else:
            new = self.old if self.new is KEEP else self.new
            self.answer.set_result(Change(key[0], key[1], self.old, new, revision))


class KeyQueue(msgspec.Struct, eq=False):
    """The calls of one key, one swap after the other; it is in its KeyQueues until nothing is left to do.

    It starts by asking for the current bytes (`values` is None) or with a swap (`values` are the new ones).
    A swap that times out or is lost ends it, so a reply that comes late finds it ended.
    """

    queues: KeyQueues[Any]
    key: Key
    deadline: float = 0.0
    """When the store is overdue; set by whoever sends."""
    ended: bool = False
    values: Sequence[bytes | None] | None = None
    last: bytes | None = None
    """What the key holds after the swap."""
    calls: list[QueuedCall] = msgspec.field(default_factory=list)
    """Those whose outcome the store is asked for."""
    waiting: list[QueuedCall] = msgspec.field(default_factory=list)

    def ask(self) -> None:
        """Send a question for the current bytes; `current` gets them."""
        raise NotImplementedError

    def swap(self, base: bytes | None, values: Sequence[bytes | None]) -> None:
        """Send a request to write `values` in turn (None: delete) if the key still holds `base`, else to tell
        what it holds; with no values, only to compare. `swapped` or `current` gets the reply."""
        raise NotImplementedError

    def swap_one(self, base: bytes, new: bytes | None) -> None:
        """The same for one value, which is what most swaps are."""
        self.swap(base, (new,))

    def add(self, answer: Deferred[Any], change: ChangeFunction | None, *, blind: bool = False) -> None:
        """Queue a call for the key."""
        queues = self.queues
        deadline = queues.loop.time() + queues.timeout if self.calls or self.waiting else 0.0
        self.waiting.append(QueuedCall(answer, change, blind, deadline))

    def add_alone(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Deferred[Any]:
        """Queue work that is done while nothing else of the key is on its way."""
        answer: Deferred[Any] = Deferred()
        self.waiting.append(QueuedCall(answer, None, work=work))
        self.queues.works = True
        return answer

    def start(self) -> None:
        """Begin with what was queued."""
        self._start()

    def begin(self, change: ChangeFunction) -> Deferred[Change]:
        """The first call for the key: nearly always the only one of its swap, and on bytes that are known."""
        answer: Deferred[Change] = Deferred()
        base = self.queues.known.get(self.key)
        if base is not None:
            try:
                new = change(base)
            except Exception:
                # Whatever it raised, the store has to confirm the bytes first: it runs again below.
                new = KEEP
            if new is not KEEP:
                self.calls = [QueuedCall(answer, change, False, 0.0, base, new, asked=True)]
                self.values, self.last = (new,), new
                self.swap_one(base, new)
                return answer
        self.add(answer, change)
        self._start()
        return answer

    def current(self, value: bytes | None) -> None:
        """The store tells what the key holds: asked for it, or because it is not what a swap expected."""
        if not self.ended:
            self._attempt(value, confirmed=True, sound=value is None or is_json(value))

    def swapped(self, made: Iterable[int | AdapterError]) -> None:
        """The store has carried out the swap: each value's revision, or the error that ended it there."""
        if self.ended:
            return
        revisions = iter(made)
        for number, call in enumerate(self.calls):
            revision = 0 if call.new is KEEP else next(revisions)
            if isinstance(revision, AdapterError):
                # This one did not happen, and the later ones were computed on what it would have written.
                self.calls = self.calls[number:]
                self.failed(revision)
                return
            call.settle(self.key, revision)
        self._finish(self.last)

    def failed(self, error: AdapterError) -> None:
        """What was on its way failed; what waits goes on, unless the store is away."""
        if self.ended:
            return
        if self.values is None:
            # The question for the bytes failed, and everything waits for those.
            calls, self.waiting = self.waiting, []
        else:
            calls = self.calls
        self.calls = []
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)
        dropped: list[QueuedCall] = []
        if isinstance(error, (AdapterTimeout, AdapterUnavailable)):
            # Nobody knows when the next one would be answered, and nothing of these has left.
            dropped, self.waiting = self.waiting, []
        self._finish(None)
        if isinstance(error, AdapterTimeout):
            error = AdapterUnavailable(
                f"{self.queues.server} did not answer an earlier call for the key; this one was not sent, "
                "try again."
            )
        for call in dropped:
            if not call.answer.done():
                call.answer.set_exception(error)

    def _start(self) -> None:
        if self.queues.works and self.waiting[0].work is not None:
            self._work(self.waiting.pop(0))
            return
        known = self.queues.known.get(self.key)
        if known is None:
            self.values = None
            for call in self.waiting:
                call.asked = True
            self.ask()
        else:
            self._attempt(known, confirmed=False, sound=True)

    def _work(self, call: QueuedCall) -> None:
        assert call.work is not None
        # Whoever is answered in the meantime waits behind it.
        self.calls, self.values = [call], ()
        self.queues.run(self._done(call, call.work()))

    async def _done(self, call: QueuedCall, work: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await work
        except AdapterError as error:
            # What it was raised from holds frames, and those the call.
            error.__traceback__ = error.__context__ = None
            self.failed(error)
            return
        except asyncio.CancelledError:
            self.failed(
                AdapterTimeout("The adapter was closed; whether the call had an effect is not known.")
            )
            raise
        except Exception as error:
            # Nobody may wait for ever because it raised what it is not to raise.
            log.exception("%s: what was done for a key alone failed", self.queues.server)
            self.failed(AdapterError(f"{type(error).__name__}: {error}"))
            return
        if not call.answer.done():
            call.answer.set_result(result)
        if not self.ended:
            self._finish(None)

    def _attempt(self, base: bytes | None, *, confirmed: bool, sound: bool) -> None:
        """Compute what is queued on `base` and have it swapped in; `confirmed`: the store holds it now,
        `sound`: it is JSON."""
        # After a lost race the calls of that swap come first, all of them, then what fits of the waiting.
        calls = self._in_time() if self.calls else []
        again = len(calls)
        room = MAX_TOGETHER - again
        if self.queues.works:
            alone = (number for number, call in enumerate(self.waiting) if call.work is not None)
            room = min(room, next(alone, room))
        calls += [call for call in self.waiting[:room] if not call.answer.done()]
        del self.waiting[:room]
        current, size = base, 0
        values: list[bytes | None] = []
        for number, call in enumerate(calls):
            if size >= MAX_TOGETHER_BYTES and number >= again:
                # The values so far are large enough for one swap: the rest waits for the next.
                self.waiting[:0] = calls[number:]
                del calls[number:]
                break
            call.run(self.key, current, sound=sound)
            if call.new is not KEEP:
                current, sound = call.new, True
                values.append(current)
                size += len(current or b"")
        self.calls = calls
        if not calls or (confirmed and not values):
            # Nothing is to be written, and the store holds what these calls saw. Those that came while its
            # answer was on the way ask anew: others may have changed the key between.
            early = [call for call in calls if call.asked]
            for call in early:
                call.settle(self.key, 0)
            self.waiting[:0] = calls[len(early) :]
            self._finish(current if sound else None)
            return
        for call in calls:
            call.asked = True
        self.values, self.last = values, current
        self.swap(base, values)

    def _in_time(self) -> list[QueuedCall]:
        """The calls of a lost race that still have somebody who waits, and time."""
        now, seconds = self.queues.loop.time(), self.queues.timeout
        for call in self.calls:
            # The first one left at once, and has the time of its first swap.
            call.deadline = call.deadline or self.deadline
            if call.deadline < now and not call.answer.done():
                call.answer.set_exception(
                    AdapterError(
                        f"Other hosts changed key {self.key[1]!r} all the time for {seconds:g} s; "
                        "nothing was changed, try again."
                    )
                )
        return [call for call in self.calls if not call.answer.done()]

    def _finish(self, last: bytes | None) -> None:
        """Go on with what waits, or end; `last` is what the key holds, None when that is not known."""
        self.calls = []
        if last is not None:
            self.queues.known.put(self.key, last)
        else:
            self.queues.known.forget(self.key)
        if self.waiting:
            self._start()
        else:
            self.ended = True
            del self.queues.by_key[self.key]


Queue = TypeVar("Queue", bound=KeyQueue)


class KeyQueues(abc.ABC, Generic[Queue]):
    """The queue of each key that has a change on its way."""

    def __init__(self, known: KnownValues, *, timeout: float, server: str) -> None:
        """`timeout`: seconds; `server`: how error sentences name it."""
        self.by_key: dict[Key, Queue] = {}
        """Only the keys that have one."""
        self.get = self.by_key.get
        self.known = known
        self.timeout = timeout
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.works = False
        """True once work was queued that is done alone."""
        self.tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it beside everything else."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @abc.abstractmethod
    def new(self, key: Key) -> Queue:
        """Put a queue for the key into `by_key`, with nothing in it."""

    def update(self, key: Key, change: ChangeFunction) -> Deferred[Change]:
        """Compute the change here and swap it in; after a lost race, again on the newer bytes."""
        queue = self.by_key.get(key)
        if queue is None:
            return self.new(key).begin(change)
        answer: Deferred[Change] = Deferred()
        queue.add(answer, change)
        return answer

    def alone(self, key: Key, work: Callable[[], Coroutine[Any, Any, Any]]) -> Deferred[Any]:
        """Do the work after the calls for the key that were made before, and before those made after it."""
        queue = self.by_key.get(key)
        if queue is not None:
            return queue.add_alone(work)
        queue = self.new(key)
        answer = queue.add_alone(work)
        queue.start()
        return answer

    def read_after(self, queue: Queue) -> Deferred[bytes | None]:
        """What the key holds after the changes that were made before this call."""
        answer: Deferred[bytes | None] = Deferred()
        queue.add(answer, None)
        return answer

    def write_after(self, queue: Queue, new: bytes | None) -> Deferred[Change]:
        """Set or delete after the changes that were made before this call."""
        answer: Deferred[Change] = Deferred()
        queue.add(answer, lambda _old: new, blind=True)
        return answer
