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
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from iii_skill.adapter import Deferred, StateAdapter
from iii_skill.adapters.shared.change_follower import FollowedChanges
from iii_skill.adapters.shared.connection_keeper import ConnectionKeeper, end_tasks
from iii_skill.adapters.shared.known_values import Key, is_json
from iii_skill.adapters.shared.server_follower import ServerFollower, ServerLog
from iii_skill.adapters.shared.shared_keys import KeyRead, SharedKey, SharedKeys
from iii_skill.adapters.shared.swap import Outcome, Swap
from iii_skill.adapters.shared.swap_writer import SwapWriter, fate_unknown
from iii_skill.adapters.shared.turn_batches import TurnBatches
from iii_skill.errors import FATE_UNKNOWN, AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change, ChangeFunction, Durability

log = logging.getLogger(__name__)

C = TypeVar("C")
P = TypeVar("P")
T = TypeVar("T")

QUIET_AT_CLOSE = 1.0
"""What is on its way is waited for as long as no silence is longer than so many seconds."""


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
        self._reads: TurnBatches[SharedKey | KeyRead] = TurnBatches(self._send_reads)
        self._writes: TurnBatches[SharedKey] = TurnBatches(self._send_writes, size=_bytes_of)
        self._queues = SharedKeys(self._reads, self._writes, timeout=self.timeout, server=self.server)
        self._writer = SwapWriter(
            self._keeper(logging.WARNING),
            write=self._locate_and_write,
            written=self.written,
            seconds=self.timeout,
        )
        self._reader = self._keeper(logging.DEBUG)
        self._scanner = self._keeper(logging.DEBUG)
        try:
            await self._writer.keeper.open()
            if self._writer.keeper.up:
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
        if self._queues.tasks:
            await asyncio.wait(self._queues.tasks, timeout=QUIET_AT_CLOSE)
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
        await end_tasks(*self._scans, *self._queues.tasks)
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

    def alone(self, scope: str, key: str, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Do something else to a key: after its changes that were called for before, before the later ones.

        `work` goes through `use_reader` or `use_writer`."""
        self._check_open()
        return self._queues.alone((scope, key), work)

    async def use_reader(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Read something on the connection of the reads, again when it breaks."""
        return await self._reader.read(work, seconds=self.timeout)

    async def use_writer(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Write something on the connection of the writes; AdapterTimeout when it may have happened.

        Then `written` is asked before anything else is written, for no swaps: see to it that what was lost
        does not happen any more.
        """
        return await self._writer.other(work)

    async def use_scanner(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Read what may be long: no get waits for it, and it goes on when its caller is cancelled."""
        self._check_open()
        scan = asyncio.create_task(self._scanner.read(work, seconds=self.timeout))
        self._scans.add(scan)
        scan.add_done_callback(self._scans.discard)
        return await asyncio.shield(scan)

    @contextlib.asynccontextmanager
    async def own_connection(self, keys: Iterable[Key]) -> AsyncIterator[C]:
        """A connection for a write of these keys that does not wait for others, as `write_together`.

        AdapterUnavailable when there is none, before anything is written. What breaks it later is one of
        `lost`; what was known of the keys counts no more.
        """
        self._check_open()
        connection = await self._scanner.another()
        try:
            await self._stand(connection)
            yield connection
        finally:
            await self.disconnect(connection)
            for key in keys:
                self._queues.known.forget(key)

    async def list(self, scope: str) -> Sequence[tuple[str, bytes]]:
        """All pairs at one moment; a value that is no JSON is left out and logged."""
        return self.sound(
            scope, await self.use_scanner(lambda connection: self.read_scope(connection, scope))
        )

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
        return await self.use_scanner(lambda connection: self.read_keys(connection, scope))

    async def scopes(self) -> Sequence[str]:
        """Every scope with a key."""
        return await self.use_scanner(self.read_scopes)

    def changes(self) -> FollowedChanges:
        """Every host's changes from now on, own ones included, in order per key, each once."""
        return self.follow(self)

    def follow(self, server_log: ServerLog[C, P]) -> FollowedChanges:
        """The same out of another log than that of `newest` and `changes_after`: one of some scopes."""
        self._check_open()
        follower = ServerFollower(server_log, self._keeper(logging.DEBUG))
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
        await asyncio.gather(self._writer.keeper.close(), self._reader.close(), self._scanner.close())

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
            outcomes = await self._writer.write(swaps)
        except AdapterError as error:
            _all_failed(batch, error)
        except asyncio.CancelledError:
            _all_failed(batch, AdapterTimeout(f"The adapter was closed; {FATE_UNKNOWN}.", fate_told=True))
            raise
        except Exception as error:
            log.exception("%s: writing failed", self.name)
            _all_failed(batch, fate_unknown(AdapterError(f"{type(error).__name__}: {error}")))
        else:
            for item, outcome in zip(batch, outcomes, strict=True):
                item.became(outcome)

    async def _locate_and_write(self, connection: C, swaps: Sequence[Swap]) -> Sequence[Outcome]:
        await self._stand(connection)
        return await self.write(connection, swaps)

    async def _stand(self, connection: C) -> None:
        """Who began to follow before the changes that are made next must see them."""
        for follower in self._following():
            if follower.position is None:
                follower.stand(await follower.log.newest(connection))

    def _following(self) -> Iterator[ServerFollower[C, P]]:
        for changes in self._changes:
            for follower in changes.followers:
                assert isinstance(follower, ServerFollower)
                yield follower

    async def _locate(self, follower: ServerFollower[C, P]) -> None:
        """Give it a position as soon as the server is there; a write that comes first does the same."""
        with contextlib.suppress(AdapterError):
            follower.stand(await self._scanner.read(follower.log.newest, seconds=self.timeout))


def _all_failed(batch: Iterable[SharedKey | KeyRead], error: AdapterError) -> None:
    # What it was raised from holds frames, and those the calls: only the cyclic collector would free them.
    error.__traceback__ = error.__context__ = None
    for item in batch:
        item.failed(error)


def _bytes_of(item: SharedKey) -> int:
    return len(item.base or b"") + sum(len(value or b"") for value in item.values or ())
