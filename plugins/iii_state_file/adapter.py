"""FileAdapter: changes run on the event loop over cached bytes, answers leave after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

from iii_skill.adapter import Deferred, StateAdapter
from iii_skill.errors import AdapterError, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability
from iii_state_file.config import FileConfig
from iii_state_file.flights import Flights, Raised
from iii_state_file.reader import KEYS, LIST, SCOPES, Row
from iii_state_file.scans import Scans
from iii_state_file.slots import Slot, Slots, check_name
from iii_state_file.store import Store


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

    # From `open` on. There are slots only from then on, and a call that finds none is refused first.
    _loop: asyncio.AbstractEventLoop
    _store: Store
    _flights: Flights
    _scans: Scans

    def __init__(self) -> None:
        self._opening: asyncio.Future[Store] | None = None
        self._refusal: tuple[type[AdapterError], str] | None = (AdapterError, "The file adapter is not open.")
        self._slots = Slots(0)
        self._missing: list[tuple[str, str]] = []
        self._reading = 0
        self._drained: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, config: FileConfig) -> None:
        """Open or create the store; StoreRefused says what to do when it cannot be used as it is."""
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.ensure_future(asyncio.to_thread(Store, config))
        store = self._store = await asyncio.shield(self._opening)
        self.data_dir = store.directory.path
        self._slots = Slots(config.cache_bytes)
        self._flights = Flights(store)
        self._scans = Scans(self._flights)
        store.start(
            self._loop,
            committed=self._commit_done,
            found=self._rows_found,
            scanned=self._scans.done,
            failed=self._fail,
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
            if self._reading or not self._flights.landed:
                self._drained = self._loop.create_future()
                await self._drained
        self._slots.clear()
        await asyncio.to_thread(opening.result().close)

    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """The cached bytes at once when they are durable, else a Deferred."""
        name = (scope, key)
        slot = self._slots.get(name)
        if slot is None or slot.waiting is not None:
            return self._after_read(name, None)
        slot.used = True
        flights = self._flights
        if slot.batch <= flights.committed:
            return slot.value
        return flights.wait(slot, slot.value, None)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run `change` on the current bytes now; the Deferred is settled when the outcome is durable."""
        name = (scope, key)
        slot = self._slots.get(name)
        if slot is None or slot.waiting is not None:
            return self._after_read(name, change)
        slot.used = True
        return self._apply(slot, change, None)

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All pairs of the scope after every write that was accepted before this call."""
        return self._scan(LIST, (scope,))

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """All keys of the scope, their values unread."""
        return self._scan(KEYS, (scope,))

    def scopes(self) -> Answer[Sequence[str]]:
        """Every scope that holds a key."""
        return self._scan(SCOPES, ())

    def _apply(self, slot: Slot, change: ChangeFunction, answer: Deferred[Any] | None) -> Answer[Change]:
        """Run one change on a slot that is read; gives the outcome itself where it is durable already."""
        old = slot.value
        flights = self._flights
        try:
            new = change(old)
        except Exception as error:
            if slot.batch > flights.committed:
                return flights.wait(slot, Raised(error), answer)
            if answer is None:
                raise
            answer.set_exception(error)
            return answer
        if new is KEEP:
            kept = Change(slot.scope, slot.key, old, old, 0)
            if slot.batch > flights.committed:
                return flights.wait(slot, kept, answer)
            if answer is None:
                return kept
            answer.set_result(kept)
            return answer
        flights.revision = revision = flights.revision + 1
        if new is None:
            slot.position = 0
        elif old is None:
            flights.position = slot.position = flights.position + 1
        self._slots.used += (0 if new is None else len(new)) - (0 if old is None else len(old))
        slot.value = new
        slot.revision = revision
        current = flights.current
        if slot.batch != current.number:
            slot.batch = current.number
            if not flights.dirty:
                self._loop.call_soon(flights.depart)
            flights.dirty.append(slot)
        if answer is None:
            answer = Deferred()
        current.answers.append((answer, Change(slot.scope, slot.key, old, new, revision)))
        return answer

    def _after_read(self, name: tuple[str, str], change: ChangeFunction | None) -> Deferred[Any]:
        """Queue a call behind the read of its key; None is a get."""
        self._refuse()
        slot = self._slots.get(name)
        if slot is None:
            check_name(*name)
            slot = self._slots[name] = Slot(*name)
            if not self._missing:
                self._loop.call_soon(self._read)
            self._missing.append(name)
            self._reading += 1
        assert slot.waiting is not None
        answer: Deferred[Any] = Deferred()
        slot.waiting.append((answer, change))
        return answer

    def _read(self) -> None:
        """Hand over the keys that this tick of the loop asked for in vain."""
        if self._missing:
            self._store.read(self._missing)
            self._missing = []

    def _scan(self, query: str, parameters: tuple[str, ...]) -> asyncio.Future[Any]:
        self._refuse()
        check_name(*parameters)
        return self._scans.ask(query, parameters)

    def _refuse(self) -> None:
        if self._refusal is not None:
            raise self._refusal[0](self._refusal[1])

    def _commit_done(self, number: int) -> None:
        """Answer everyone who waited for batches up to `number`."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        self._flights.land(number)
        if self._slots.used > self._slots.limit:
            self._slots.evict(number)
        if self._drained is not None:
            self._check_drained()

    def _rows_found(self, names: Sequence[tuple[str, str]], rows: Sequence[Row | None]) -> None:
        """Fill the slots that were read and run the calls that waited for them."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        self._reading -= len(names)
        slots, flights = self._slots, self._flights
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
                elif slot.batch > flights.committed:
                    flights.wait(slot, slot.value, answer)
                else:
                    answer.set_result(slot.value)
            slot.waiting = None
        if slots.used > slots.limit:
            slots.evict(flights.committed)
        if self._drained is not None:
            self._check_drained()

    def _check_drained(self) -> None:
        if self._drained is not None and not (self._reading or self._drained.done()) and self._flights.landed:
            self._drained.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Fail-stop: nothing is acknowledged or shown any more, every caller learns it."""
        if self._refusal is not None and self._refusal[0] is StorageFailed:
            return
        message = (
            f"The store in {self.data_dir} failed ({error}) and is stopped: check the disk, then start again."
        )
        self._refusal = (StorageFailed, message)
        self._missing.clear()
        self._reading = 0
        answers: list[Any] = [*self._scans.abandon(), *self._flights.abandon(), *self._slots.abandon()]
        for answer in answers:
            if not answer.done():
                answer.set_exception(StorageFailed(message))
        self._check_drained()
        if self.on_failure is not None:
            self.on_failure(StorageFailed(message))
