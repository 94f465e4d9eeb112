"""Flights: the writes of each tick of the event loop, from the first one until they are committed.

Numbers rise by one, so a flight is found by its number: first those that were handed to the writer, in order,
then `current`, which takes writes. A slot is in `dirty` exactly while its last write is in `current`, and
`depart` is due exactly while something is. A value is durable when the batch of its slot is not above
`committed`; whatever would show one that is not waits in its flight. Flights are settled in order, and within
one flight those who wait in the order of their calls.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from iii_skill.adapter import Deferred
from iii_state_file.reader import Scan
from iii_state_file.slots import Slot
from iii_state_file.store import Store
from iii_state_file.writer import Batch


class Raised:
    """What a change function raised, to be given to its caller when that shows nothing uncommitted."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Flight:
    """Who waits for one batch, in the order of the calls."""

    __slots__ = ("answers", "number", "scans")

    def __init__(self, number: int) -> None:
        self.number = number
        self.answers: list[tuple[Deferred[Any], Any]] = []
        self.scans: list[Scan] = []


class Flights:
    """All flights of a store, and the numbers that its writes take."""

    __slots__ = ("_sent", "_store", "committed", "current", "dirty", "position", "revision")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sent: deque[Flight] = deque()
        self.current = Flight(1)
        self.dirty: list[Slot] = []
        self.committed = 0
        self.revision, self.position = store.revision, store.position
        """The last that were used."""

    @property
    def landed(self) -> bool:
        """True when every write is committed."""
        return not (self.dirty or self._sent)

    def wait(self, slot: Slot, outcome: Any, answer: Deferred[Any] | None) -> Deferred[Any]:
        """Answer when the last write of the slot is durable, behind the answers that wait for it already."""
        if answer is None:
            answer = Deferred()
        current = self.current
        flight = current if slot.batch == current.number else self._sent[slot.batch - self._sent[0].number]
        flight.answers.append((answer, outcome))
        return answer

    def follow(self, scan: Scan) -> None:
        """Hand the scan over as soon as every write that was accepted before it is committed."""
        if self.dirty:
            self.current.scans.append(scan)
        elif self._sent:
            self._sent[-1].scans.append(scan)
        else:
            self._store.scan(scan)

    def depart(self) -> None:
        """Hand the writes of this tick to the writer, each key once with its last value."""
        if not self.dirty:
            return
        deletes: list[tuple[int]] = []
        rows: list[int | str | bytes | None] = []
        for slot in self.dirty:
            position, stored = slot.position, slot.stored
            if position != stored:
                if stored:
                    deletes.append((stored,))
                slot.stored = position
            if position:
                rows += (position, slot.scope, slot.key, slot.value, slot.revision)
        self.dirty.clear()
        flight = self.current
        self._sent.append(flight)
        self.current = Flight(flight.number + 1)
        self._store.write(Batch(flight.number, deletes, rows, self.revision))

    def land(self, number: int) -> None:
        """The batches up to `number` are committed: answer everyone who waited for them."""
        self.committed = number
        sent = self._sent
        while sent and sent[0].number <= number:
            flight = sent.popleft()
            for answer, outcome in flight.answers:
                if outcome.__class__ is Raised:
                    answer.set_exception(outcome.error)
                else:
                    answer.set_result(outcome)
            for scan in flight.scans:
                self._store.scan(scan)

    def abandon(self) -> list[Deferred[Any]]:
        """Forget all that is not committed; gives those who waited for it."""
        answers = [answer for flight in (*self._sent, self.current) for answer, _ in flight.answers]
        self._sent.clear()
        self.current = Flight(self.current.number + 1)
        self.dirty.clear()
        return answers
