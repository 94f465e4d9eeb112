"""SharedAdapter: an adapter for a server that many hosts share, but for what only its author knows.

An author writes how to connect and what to send: a handful of coroutines over one connection. All the rest
is here. The reads of one turn of the event loop are one request, so are the changes of one turn; while a
change of a key is on its way, later calls for the key wait in order; a lost race runs the change again; a
broken connection is replaced, and what became of the changes that it carried is asked before anything else is
written; every call is answered in time; the changes of all hosts are followed from a position.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import msgspec

from iii_skill.adapter import Deferred, StateAdapter
from iii_skill.adapters.shared.change_follower import ChangeFollower, FollowedChanges
from iii_skill.adapters.shared.connection_keeper import ConnectionBroken, ConnectionKeeper, end_tasks
from iii_skill.adapters.shared.key_queues import KeyQueue, KeyQueues
from iii_skill.adapters.shared.known_values import NULL, Key, KnownValues, broken_value, is_json
from iii_skill.adapters.shared.turn_batches import TurnBatches
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change, ChangeFunction, Durability

log = logging.getLogger(__name__)

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")

FATE_UNKNOWN = (
    "the fate of the write is unknown: it may have happened or not, so read the key before you repeat it"
)
QUIET_AT_CLOSE = 1.0
"""What is on its way is waited for as long as no silence is longer than so many seconds."""
LOOK_AGAIN = 1.0


class Swap(msgspec.Struct, frozen=True, gc=False):
    """What `write` does to one key: store `values` in turn if it holds `base`, or whatever it holds."""

    scope: str
    key: str
    base: bytes | None
    """What the key has to hold; None: it must not be there. Without meaning for an overwrite."""
    values: Sequence[bytes | None]
    """One or more; None deletes. The last one is what the key holds in the end, and each is a Change."""
    overwrite: bool = False

    @property
    def key_made(self) -> int | None:
        """Which of the values gives the key a new place in its scope; None when it keeps the one it has. An
        overwrite gives the key a new place only if it is not there."""
        made = None if self.overwrite or self.base is not None else 0
        for number, value in enumerate(self.values[:-1]):
            if value is None:
                made = number + 1
        return made


class Written(msgspec.Struct, frozen=True, gc=False):
    """The swap was carried out: one revision for each of its values, and what an overwrite found."""

    revisions: Sequence[int]
    old: bytes | None = None


class Overtaken(msgspec.Struct, frozen=True, gc=False):
    """The swap was not carried out: the key does not hold `base`, but this."""

    current: bytes | None


Outcome: TypeAlias = Written | Overtaken | AdapterError
"""What became of a swap; an AdapterError for one that the server refused, while others were carried out."""


class SharedKey(KeyQueue, eq=False, kw_only=True):
    """The queue of one key; it is itself what travels in the batches."""

    adapter: SharedAdapter[Any, Any]
    base: bytes | None = None
    overwrite: bool = False

    def ask(self) -> None:
        self._add(self.adapter._reads)

    def swap(self, base: bytes | None, values: Sequence[bytes | None]) -> None:
        self.base, self.overwrite = base, False
        # Only compared: to read is as good, and no write.
        self._add(self.adapter._writes if values else self.adapter._reads)

    def begin_overwrite(self, new: bytes | None) -> Deferred[Change]:
        """Set or delete as the first call for the key, whatever it holds."""
        answer: Deferred[Change] = Deferred()
        self.add(answer, lambda _old: new, blind=True)
        self.calls, self.waiting = self.waiting, []
        self.calls[0].new = new
        self.values, self.last, self.overwrite = (new,), new, True
        self._add(self.adapter._writes)
        return answer

    def to_swap(self) -> Swap:
        assert self.values is not None
        return Swap(self.key[0], self.key[1], self.base, self.values, self.overwrite)

    def became(self, outcome: Outcome) -> None:
        """The server has answered."""
        if isinstance(outcome, AdapterError):
            self.failed(outcome)
        elif isinstance(outcome, Overtaken):
            self.current(outcome.current)
        else:
            if self.overwrite and not self.ended:
                old = outcome.old
                sound = old is None or self.queues.known.get(self.key) == old or is_json(old)
                self.calls[0].old = old if sound else NULL
            self.swapped(outcome.revisions)

    def _add(self, batches: TurnBatches[Any]) -> None:
        self.deadline = self.queues.loop.time() + self.queues.timeout
        try:
            batches.add(self)
        except AdapterUnavailable as error:
            self.failed(error)


class SharedKeys(KeyQueues[SharedKey]):
    """The queues of a SharedAdapter."""

    def __init__(self, adapter: SharedAdapter[Any, Any]) -> None:
        super().__init__(KnownValues(), timeout=adapter.timeout, server=adapter.server)
        self._adapter = adapter

    def new(self, key: Key) -> SharedKey:
        queue = self.by_key[key] = SharedKey(queues=self, key=key, adapter=self._adapter)
        return queue


class KeyRead(msgspec.Struct, eq=False):
    """A get of a key that has no queue."""

    known: KnownValues
    key: Key
    answer: Deferred[bytes | None] = msgspec.field(default_factory=Deferred)

    def current(self, value: bytes | None) -> None:
        if self.answer.done():
            return
        if value is None or self.known.checked(self.key, value):
            self.answer.set_result(value)
        else:
            self.answer.set_exception(broken_value(self.key))

    def failed(self, error: AdapterError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class ServerFollower(ChangeFollower[P], Generic[C, P]):
    """Follows the changes on a connection of its own."""

    def __init__(self, adapter: SharedAdapter[C, P]) -> None:
        super().__init__()
        self._adapter = adapter
        self._keeper = adapter._keeper(logging.DEBUG)

    async def newest(self) -> P:
        return await self._use(self._adapter.newest)

    async def after(self, position: P) -> tuple[Sequence[Change], P]:
        adapter = self._adapter
        found = await self._use(lambda connection: adapter.changes_after(connection, position))
        if not found[0]:
            await self._use(adapter.changed, more=LOOK_AGAIN)
        return found

    async def failed(self, error: AdapterError) -> None:
        """The keeper makes its connection again."""

    async def release(self) -> None:
        await self._keeper.close()

    async def _use(self, work: Callable[[C], Awaitable[T]], *, more: float = 0.0) -> T:
        return await self._keeper.use(work, seconds=self._adapter.timeout + more)


class SharedAdapter(StateAdapter, Generic[C, P]):
    """Subclass it, declare `name`, `config_type` and `server`, and write the coroutines below.

    `C` is a connection of yours, `P` a position in the log of changes that `changes_after` can go on behind.
    A connection is used by one coroutine at a time. Raise one of `lost` when it broke, an AdapterError when
    the server refused: then it is kept.
    """

    durability: ClassVar[Durability] = Durability.REMOTE
    shared: ClassVar[bool] = True
    checked: ClassVar[bool] = True
    changes_from_call: ClassVar[bool] = True
    lost: tuple[type[BaseException], ...] = (OSError, EOFError)
    """What your client raises when a connection broke or cannot be made."""

    server: str = "The server"
    """How error sentences name it; a property may look into `config`, but never show a password."""
    timeout: float = 5.0
    """Seconds for a call, set by `open` from the setting `timeout` if there is one."""
    config: Any = None

    def __init__(self) -> None:
        self._open = False
        self._changes: set[FollowedChanges] = set()
        self._keepers: weakref.WeakSet[ConnectionKeeper[C]] = weakref.WeakSet()
        self._scans: set[asyncio.Task[Any]] = set()
        self._unsure: Sequence[Swap] | None = None
        """Changes that a lost connection carried, until it is known what became of them."""

    # What an author writes.

    @abc.abstractmethod
    async def connect(self) -> C:
        """A connection that is ready: authenticated, its store made and its layout looked at. Called at the
        start and whenever one was lost. StoreRefused when trying again cannot help."""

    @abc.abstractmethod
    async def disconnect(self, connection: C) -> None:
        """Close it, also when it is broken."""

    @abc.abstractmethod
    async def read(self, connection: C, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """What each key holds now, None where there is no such key."""

    @abc.abstractmethod
    async def write(self, connection: C, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        """Carry out all swaps that can be, each key at most once among them, in one durable step; an outcome
        for each. Every value is a change with a revision, in the log that `changes_after` reads."""

    async def written(self, connection: C, swaps: Sequence[Swap]) -> Sequence[Outcome] | None:
        """A connection was lost in the middle of `write(swaps)`: what became of them? None when they were not
        carried out and never will be: they are then written again. Override it where the server can tell."""
        error = AdapterTimeout(f"{self.server} was lost before it answered; {FATE_UNKNOWN}.", fate_told=True)
        return [error] * len(swaps)

    @abc.abstractmethod
    async def read_scope(self, connection: C, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs in order of first insertion, at one moment."""

    async def read_keys(self, connection: C, scope: str) -> Sequence[str]:
        """The keys of `read_scope`. Override it where they are cheaper."""
        return [key for key, _ in await self.read_scope(connection, scope)]

    @abc.abstractmethod
    async def read_scopes(self, connection: C) -> Sequence[str]:
        """Every scope that holds a key."""

    @abc.abstractmethod
    async def newest(self, connection: C) -> P:
        """The end of the log as of now: nothing that is acknowledged comes after it."""

    @abc.abstractmethod
    async def changes_after(self, connection: C, position: P) -> tuple[Sequence[Change], P]:
        """What comes after the position, at most some hundred changes, and where that ends. Each change once,
        in order for each key, whatever was written at the same time; log it when some are forgotten."""

    async def changed(self, connection: C) -> None:
        """Wait until there may be more changes, at most about a second."""
        await asyncio.sleep(0.05)

    # What the host calls.

    async def open(self, config: Any) -> None:
        """Connect. A server that is away is logged and tried again; one that refuses us is StoreRefused."""
        self.config = config
        self.timeout = float(getattr(config, "timeout", self.timeout))
        self._queues = SharedKeys(self)
        self._reads: TurnBatches[SharedKey | KeyRead] = TurnBatches(self._send_reads)
        self._writes: TurnBatches[SharedKey] = TurnBatches(self._send_writes, size=_bytes_of)
        self._writer = self._keeper(logging.WARNING)
        self._reader = self._keeper(logging.DEBUG)
        self._scanner = self._keeper(logging.DEBUG)
        try:
            await self._writer.open()
            if self._writer.up:
                await self._reader.open()
        except BaseException:
            await self._disconnected()
            raise
        self._open = True

    async def close(self) -> None:
        """Finish what is on its way unless the server is silent, then disconnect; `changes()` end."""
        if not self._open:
            return
        self._open = False
        both = (self._writes, self._reads)
        answers = True
        # A read may be the first half of a change, and a change that lost a race goes on as another one.
        while answers and not all(batches.idle for batches in both):
            answers = all([await batches.drained(quiet=QUIET_AT_CLOSE) for batches in both])
        if not answers:
            log.warning(
                "%s did not answer all calls before the adapter closed; whether the writes among them were "
                "made is not known.",
                self.server,
            )
        for batches in both:
            for item in await batches.abort():
                item.failed(self._not_open())
        await end_tasks(*self._scans)
        await asyncio.gather(self._disconnected(), *(changes.aclose() for changes in list(self._changes)))

    def get(self, scope: str, key: str) -> Deferred[bytes | None]:
        """What the key holds, after the changes of it that were made before this call."""
        self._check_open()
        known = (scope, key)
        queue = self._queues.get(known)
        if queue is not None:
            return self._queues.read_after(queue)
        question = KeyRead(self._queues.known, known)
        try:
            self._reads.add(question)
        except AdapterUnavailable as error:
            question.failed(error)
        return question.answer

    def set(self, scope: str, key: str, value: bytes) -> Deferred[Change]:
        """Store `value` in one round trip."""
        return self._overwrite((scope, key), value)

    def delete(self, scope: str, key: str) -> Deferred[Change]:
        """Remove the key in one round trip."""
        return self._overwrite((scope, key), None)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Deferred[Change]:
        """Compute the change here and swap it in; after a lost race, again on the newer bytes."""
        self._check_open()
        return self._queues.update((scope, key), change)

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs at one moment; a value that is no JSON is left out and logged."""
        return self.sound(scope, await self._scan(lambda connection: self.read_scope(connection, scope)))

    def sound(self, scope: str, pairs: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes]]:
        """Those whose value is JSON; the others were written by another program, and are logged."""
        known = self._queues.known
        sound = [(key, value) for key, value in pairs if known.get((scope, key)) == value or is_json(value)]
        if len(sound) < len(pairs):
            left = sorted({key for key, _ in pairs} - {key for key, _ in sound})
            log.warning("Keys of scope %r are left out of a list, they hold no JSON: %r", scope, left[:10])
        return sound

    async def keys(self, scope: str) -> Sequence[str]:
        """All keys at one moment."""
        return await self._scan(lambda connection: self.read_keys(connection, scope))

    async def scopes(self) -> Sequence[str]:
        """Every scope with a key."""
        return await self._scan(self.read_scopes)

    def changes(self) -> FollowedChanges:
        """Every host's changes from now on, own ones included, in order per key, each once."""
        self._check_open()
        follower = ServerFollower(self)
        locating = asyncio.create_task(self._locate(follower))

        def closed(changes: FollowedChanges) -> None:
            self._changes.discard(changes)
            locating.cancel()

        changes = FollowedChanges([follower], closed)
        self._changes.add(changes)
        return changes

    # How it does that.

    def _keeper(self, level: int) -> ConnectionKeeper[C]:
        keeper = ConnectionKeeper(
            self.connect,
            self.disconnect,
            label=self.server,
            seconds=self.timeout,
            lost=self.lost,
            level=level,
            on_back=self._back,
        )
        self._keepers.add(keeper)
        return keeper

    def _back(self) -> None:
        for keeper in self._keepers:
            keeper.hurry()

    async def _disconnected(self) -> None:
        await asyncio.gather(self._writer.close(), self._reader.close(), self._scanner.close())

    def _check_open(self) -> None:
        if not self._open:
            raise self._not_open()

    def _not_open(self) -> AdapterUnavailable:
        return AdapterUnavailable(f"The adapter '{self.name}' is not open.")

    def _overwrite(self, key: Key, new: bytes | None) -> Deferred[Change]:
        self._check_open()
        queue = self._queues.get(key)
        if queue is not None:
            return self._queues.write_after(queue, new)
        return self._queues.new(key).begin_overwrite(new)

    async def _scan(self, work: Callable[[C], Awaitable[T]]) -> T:
        """A read that may be long: no get waits for it, and it goes on when its caller is cancelled."""
        self._check_open()
        scan = asyncio.create_task(self._scanner.read(work, seconds=self.timeout))
        self._scans.add(scan)
        scan.add_done_callback(self._scans.discard)
        return await asyncio.shield(scan)

    async def _send_reads(self, batch: Sequence[SharedKey | KeyRead]) -> None:
        keys = [item.key for item in batch]
        try:
            values = await self._reader.read(
                lambda connection: self.read(connection, keys), seconds=self.timeout
            )
        except AdapterError as error:
            _all_failed(batch, error)
        except asyncio.CancelledError:
            _all_failed(batch, AdapterUnavailable("The adapter was closed; try again."))
            raise
        except Exception as error:
            # Nobody may wait for ever because `read` raised what it is not to raise.
            log.exception("%s: reading failed", self.name)
            _all_failed(batch, AdapterError(f"{type(error).__name__}: {error}"))
        else:
            for item, value in zip(batch, values, strict=True):
                item.current(value)

    async def _send_writes(self, batch: Sequence[SharedKey]) -> None:
        now = asyncio.get_running_loop().time()
        for item in batch:
            if item.deadline < now:
                # The batches before it took all of its time, and it has not left.
                reason = f"{self.server} did not take the call within {self.timeout:g} s; try again."
                item.failed(AdapterUnavailable(reason))
        batch = [item for item in batch if not item.ended]
        if not batch:
            return
        swaps = [item.to_swap() for item in batch]
        try:
            outcomes = await self._write(swaps)
        except AdapterError as error:
            _all_failed(batch, error)
        except asyncio.CancelledError:
            _all_failed(batch, AdapterTimeout(f"The adapter was closed; {FATE_UNKNOWN}.", fate_told=True))
            raise
        except Exception as error:
            log.exception("%s: writing failed", self.name)
            _all_failed(batch, _fate_unknown(AdapterError(f"{type(error).__name__}: {error}")))
        else:
            for item, outcome in zip(batch, outcomes, strict=True):
                item.became(outcome)

    async def _write(self, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        """Write, and where the connection is lost in the middle of that, ask what became of it."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + 2 * self.timeout
        while True:
            # Nothing else is written before it is known what became of the changes of a lost connection: they
            # could still be on their way, and would be done after what is written now.
            if self._unsure is not None:
                unsure = self._unsure
                ask = functools.partial(self.written, swaps=unsure)
                try:
                    outcomes = await self._writer.use(ask, seconds=self.timeout)
                except (AdapterUnavailable, AdapterTimeout) as error:
                    if unsure is not swaps:
                        raise
                    # Asked again as long as there is time: the caller has no better way to find out.
                    left = limit - loop.time()
                    if left > 0 and await self._writer.connected(seconds=left):
                        continue
                    raise _fate_unknown(error) from None
                self._unsure = None
                if unsure is swaps and outcomes is not None:
                    return outcomes
            try:
                return await self._writer.use(
                    lambda connection: self._locate_and_write(connection, swaps), seconds=self.timeout
                )
            except (ConnectionBroken, AdapterTimeout) as error:
                self._unsure = swaps
                if loop.time() > limit:
                    raise _fate_unknown(error) from None

    async def _locate_and_write(self, connection: C, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        # Who began to follow before these changes were made must see them.
        for follower in self._following():
            if follower.position is None:
                follower.stand(await self.newest(connection))
        return await self.write(connection, swaps)

    def _following(self) -> Iterator[ServerFollower[C, P]]:
        for changes in self._changes:
            for follower in changes.followers:
                assert isinstance(follower, ServerFollower)
                yield follower

    async def _locate(self, follower: ServerFollower[C, P]) -> None:
        """Give it a position as soon as the server is there; a write that comes first does the same."""
        with contextlib.suppress(AdapterError):
            follower.stand(await self._scanner.read(self.newest, seconds=self.timeout))


def _all_failed(batch: Iterable[SharedKey | KeyRead], error: AdapterError) -> None:
    # What it was raised from holds frames, and those the calls: only the cyclic collector would free them.
    error.__traceback__ = error.__context__ = None
    for item in batch:
        item.failed(error)


def _fate_unknown(error: AdapterError) -> AdapterTimeout:
    message = error.message.removesuffix("; try again.").rstrip(".")
    return AdapterTimeout(f"{message}; {FATE_UNKNOWN}.", fate_told=True)


def _bytes_of(item: SharedKey) -> int:
    return len(item.base or b"") + sum(len(value or b"") for value in item.values or ())
