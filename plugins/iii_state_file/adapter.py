"""FileAdapter: changes run on the event loop over cached bytes, answers leave after the commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from iii_skill.adapter import Deferred, StateAdapter
from iii_skill.errors import AdapterError, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability
from iii_state_file.config import FileConfig
from iii_state_file.reader import KEYS, LIST, SCOPES, Row, Scan
from iii_state_file.slots import Flight, Raised, Slot, Slots
from iii_state_file.store import Store
from iii_state_file.writer import Batch


class FileAdapter(StateAdapter):
    """SQLite in one directory of one process.

    Every call runs on the event loop against the slot of its key; a key without one is read by the reader
    thread first, and calls on it queue up behind that. The writes of one tick of the loop are one batch. The
    writer thread commits all batches that wait for it in one transaction, then the loop answers in order.
    Whatever would show an uncommitted value waits for the batch of that value.
    """

    name: ClassVar[str] = "file"
    durability: ClassVar[Durability] = Durability.DISK
    config_type: ClassVar[type[FileConfig]] = FileConfig

    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._opening: asyncio.Future[Store] | None = None
        self._store: Store | None = None
        self._refusal: tuple[type[AdapterError], str] | None = (AdapterError, "The file adapter is not open.")
        self._slots = Slots(0)
        self._revision = 0
        self._position = 0
        self._scheduled = False
        self._missing: list[tuple[str, str]] = []
        self._reading = 0
        self._dirty: list[Slot] = []
        self._current = Flight(1)
        self._flights: deque[Flight] = deque()
        self._committed = 0
        self._scans: set[asyncio.Future[Any]] = set()
        self._drained: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, config: FileConfig) -> None:
        """Open or create the store; StoreRefused says what to do when it cannot be used as it is."""
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.ensure_future(asyncio.to_thread(Store, config))
        store = await asyncio.shield(self._opening)
        self._store = store
        self.data_dir = store.directory.path
        self._revision, self._position = store.revision, store.position
        self._slots = Slots(config.cache_bytes)
        store.start(
            committed=self._on_loop(self._commit_done),
            found=self._on_loop(self._rows_found),
            scanned=self._on_loop(self._scan_done),
            failed=self._on_loop(self._fail),
        )
        self._refusal = None

    async def close(self) -> None:
        """Commit what was accepted, checkpoint, close the files and release the lock, also when cancelled."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        await asyncio.wait([opening])
        if opening.cancelled() or opening.exception() is not None:
            return
        if self._refusal is None:
            self._refusal = (AdapterError, "The file adapter is closed.")
            # From here on every call looks for its slot in vain, and is refused.
            self._slots.keep_loading()
            if self._reading or self._dirty or self._flights:
                self._drained = self._loop.create_future()
                await self._drained
        self._slots.clear()
        self._store = None
        await asyncio.to_thread(opening.result().close)

    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """The cached bytes at once when they are durable, else a Deferred."""
        name = (scope, key)
        slot = self._slots.get(name)
        if slot is None or slot.waiting is not None:
            return self._after_read(name, None)
        slot.used = True
        if slot.batch <= self._committed:
            return slot.value
        return self._after_commit(slot, slot.value, None)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run `change` on the current bytes now; the Deferred is settled when the outcome is durable."""
        name = (scope, key)
        slot = self._slots.get(name)
        if slot is None or slot.waiting is not None:
            return self._after_read(name, change)
        slot.used = True
        outcome: Answer[Change] = self._apply(slot, change, None)
        return outcome

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All pairs of the scope after every write that was accepted before this call."""
        return self._scan(LIST, (scope,))

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """All keys of the scope, their values unread."""
        return self._scan(KEYS, (scope,))

    def scopes(self) -> Answer[Sequence[str]]:
        """Every scope that holds a key."""
        return self._scan(SCOPES, ())

    def _apply(self, slot: Slot, change: ChangeFunction, answer: Deferred[Any] | None) -> Any:
        """Run one change on a slot that is read; gives the outcome itself where it is durable already."""
        old = slot.value
        try:
            new = change(old)
        except Exception as error:
            if slot.batch > self._committed:
                return self._after_commit(slot, Raised(error), answer)
            if answer is None:
                raise
            answer.set_exception(error)
            return answer
        if new is KEEP:
            kept = Change(slot.scope, slot.key, old, old, 0)
            if slot.batch > self._committed:
                return self._after_commit(slot, kept, answer)
            if answer is None:
                return kept
            answer.set_result(kept)
            return answer
        self._revision = revision = self._revision + 1
        if new is None:
            slot.position = 0
        elif old is None:
            self._position = slot.position = self._position + 1
        self._slots.used += (0 if new is None else len(new)) - (0 if old is None else len(old))
        slot.value = new
        slot.revision = revision
        current = self._current
        if slot.batch != current.number:
            slot.batch = current.number
            self._dirty.append(slot)
        if answer is None:
            answer = Deferred()
        current.answers.append((answer, Change(slot.scope, slot.key, old, new, revision)))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
        return answer

    def _after_commit(self, slot: Slot, outcome: Any, answer: Deferred[Any] | None) -> Deferred[Any]:
        """Answer when the last write of the slot is durable, behind the answers that wait for it already."""
        if answer is None:
            answer = Deferred()
        current = self._current
        flight = (
            current if slot.batch == current.number else self._flights[slot.batch - self._flights[0].number]
        )
        flight.answers.append((answer, outcome))
        return answer

    def _after_read(self, name: tuple[str, str], change: ChangeFunction | None) -> Deferred[Any]:
        """Queue a call behind the read of its key; None is a get."""
        self._refuse()
        slot = self._slots.get(name)
        if slot is None:
            _check_name(*name)
            slot = self._slots[name] = Slot(*name)
            self._missing.append(name)
            self._reading += 1
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._flush)
        assert slot.waiting is not None
        answer: Deferred[Any] = Deferred()
        slot.waiting.append((answer, change))
        return answer

    def _scan(self, query: str, parameters: tuple[str, ...]) -> asyncio.Future[Any]:
        self._refuse()
        _check_name(*parameters)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._scans.add(future)
        scan = Scan(future, query, parameters, query is not LIST)
        if self._dirty:
            self._current.scans.append(scan)
        elif self._flights:
            self._flights[-1].scans.append(scan)
        elif self._store is not None:
            self._store.scan(scan)
        return future

    def _refuse(self) -> None:
        if self._refusal is not None:
            kind, message = self._refusal
            raise kind(message)

    def _flush(self) -> None:
        """Hand over what this tick of the loop asked for."""
        self._scheduled = False
        store = self._store
        if store is None:
            return
        if self._missing:
            store.read(self._missing)
            self._missing = []
        if self._dirty:
            deletes: list[tuple[int]] = []
            rows: list[int | str | bytes | None] = []
            for slot in self._dirty:
                position, stored = slot.position, slot.stored
                if position != stored:
                    if stored:
                        deletes.append((stored,))
                    slot.stored = position
                if position:
                    rows += (position, slot.scope, slot.key, slot.value, slot.revision)
            self._dirty.clear()
            flight = self._current
            self._flights.append(flight)
            self._current = Flight(flight.number + 1)
            store.write(Batch(flight.number, deletes, rows, self._revision))

    def _commit_done(self, number: int) -> None:
        """Answer everyone who waited for batches up to `number`."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        self._committed = number
        flights = self._flights
        while flights and flights[0].number <= number:
            flight = flights.popleft()
            for answer, outcome in flight.answers:
                if outcome.__class__ is Raised:
                    answer.set_exception(outcome.error)
                else:
                    answer.set_result(outcome)
            if self._store is not None:
                for scan in flight.scans:
                    self._store.scan(scan)
        if self._slots.used > self._slots.limit:
            self._slots.evict(number)
        self._check_drained()

    def _rows_found(self, names: Sequence[tuple[str, str]], rows: Sequence[Row | None]) -> None:
        """Fill the slots that were read and run the calls that waited for them."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        self._reading -= len(names)
        slots = self._slots
        for name, row in zip(names, rows, strict=True):
            slot = slots[name] if self._refusal is None else slots.pop(name)
            if row is not None:
                _, slot.position, slot.value, slot.revision = row
                slot.stored = slot.position
            slot.batch = 0
            slots.used += slot.size()
            # Calls that listeners make meanwhile go to the end of the queue.
            for answer, change in slot.waiting or ():
                if change is not None:
                    self._apply(slot, change, answer)
                elif slot.batch > self._committed:
                    self._after_commit(slot, slot.value, answer)
                else:
                    answer.set_result(slot.value)
            slot.waiting = None
        if slots.used > slots.limit:
            slots.evict(self._committed)
        self._check_drained()

    def _scan_done(self, future: asyncio.Future[Any], rows: Sequence[Any]) -> None:
        self._scans.discard(future)
        if not future.done():
            future.set_result(rows)

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is not None and not (drained.done() or self._reading or self._dirty or self._flights):
            drained.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Fail-stop: nothing is acknowledged or shown any more, every caller learns it."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        message = (
            f"The store in {self.data_dir} failed ({error}) and is stopped: check the disk, then start again."
        )
        self._refusal = (StorageFailed, message)
        answers: list[Deferred[Any] | asyncio.Future[Any]] = [*self._scans]
        answers += [answer for flight in (*self._flights, self._current) for answer, _ in flight.answers]
        answers += [answer for slot in self._slots.values() for answer, _ in slot.waiting or ()]
        self._flights.clear()
        self._current = Flight(self._current.number + 1)
        self._dirty.clear()
        self._missing.clear()
        self._slots.clear()
        self._scans.clear()
        self._reading = 0
        for answer in answers:
            if not answer.done():
                answer.set_exception(StorageFailed(message))
        self._check_drained()
        if self.on_failure is not None:
            self.on_failure(StorageFailed(message))

    def _on_loop(self, function: Callable[..., None]) -> Callable[..., None]:
        """The same function for the threads of the store: it runs on the event loop, soon."""
        call_soon = self._loop.call_soon_threadsafe

        def post(*arguments: Any) -> None:
            try:
                call_soon(function, *arguments)
            except RuntimeError:
                pass  # The loop is closed: nobody waits any more.

        return post


def _check_name(*names: str) -> None:
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError:
        raise AdapterError(
            "A scope or key with a lone surrogate cannot be stored: use whole characters."
        ) from None
