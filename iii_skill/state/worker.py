"""StateWorker: the `state::*` functions over one adapter.

Invariants: no task per call; a reply leaves before the event of its write; events of one key are in the
order of its revisions; values are spliced as bytes, never decoded and encoded again. Events of an adapter
that other hosts write to as well come from its `changes()`, never from own writes: each write fires once, and
of those, only what has a trace or comes out of a trigger is sure to be answered before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence, Sized

from iii_skill.adapter import CALL_SECONDS, StateAdapter
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import FunctionInfo, Handler
from iii_skill.state import changes_request, expire_function, history_function, imports, past_function
from iii_skill.state.change_feed import ChangeFeed
from iii_skill.state.change_log import ChangeLog
from iii_skill.state.changes_function import ChangesFunction
from iii_skill.state.expire_function import ExpireFunction
from iii_skill.state.functions import CHANGES, EXPIRE, FUNCTIONS, HISTORY, IMPORT, PAST
from iii_skill.state.gate import Gate
from iii_skill.state.history_function import HistoryFunction
from iii_skill.state.imports import ImportFunction
from iii_skill.state.logged_changes import LoggedChangesFunction
from iii_skill.state.pages import Pages
from iii_skill.state.past_function import PastFunction
from iii_skill.state.publisher import Publish, Publisher
from iii_skill.state.reads import Reads
from iii_skill.state.scopes import EmptiedScopes
from iii_skill.state.settings import LiveSettings
from iii_skill.state.sweeper import Sweeper
from iii_skill.state.writes import Writes
from iii_skill.values import Change

log = logging.getLogger("iii_skill.state")


class StateWorker:
    """Answers `state::*` calls and publishes what the writes did."""

    def __init__(
        self, adapter: StateAdapter, *, settings: LiveSettings, publish: Publish, listeners: Sized
    ) -> None:
        """Nothing is published while `listeners` is empty; `listen` says that somebody came."""
        unsure = not adapter.checked
        now = adapter.clock.now
        # Where the store keeps a log, the one in memory only tells that something is new there.
        bounds = {"keep": 1} if adapter.logged else {}
        self.log = ChangeLog(lambda: int(now() * 1000), **bounds)
        self._changes = (
            LoggedChangesFunction(adapter, self.log, listen=self.listen)
            if adapter.logged
            else ChangesFunction(self.log, listen=self.listen)
        )
        self.publisher = publisher = Publisher(
            publish, settings, log=self.log, listeners=listeners, shared=adapter.shared, unsure=unsure
        )
        emptied = EmptiedScopes()
        self._answers = AdapterAnswers()
        writes = Writes(
            adapter, answers=self._answers, publisher=publisher, settings=settings, emptied=emptied
        )
        reads = Reads(adapter, answers=self._answers, pages=Pages(), emptied=emptied)
        self._adapter = adapter
        self._beside: list[asyncio.Task[None]] = []
        self._on_demand = adapter.changes_from_call
        self._feed: ChangeFeed | None = None
        if adapter.shared:
            self._feed = ChangeFeed(
                adapter.changes,
                publisher.fire,
                wanted=lambda: bool(listeners) or self.log.recording or not self._on_demand,
                broken=self.log.broken,
            )
        self._sweeper: Sweeper | None = None
        if adapter.expires:
            self._sweeper = Sweeper(adapter, adapter.clock)
            if not adapter.shared:
                adapter.on_expired = publisher.fire
        expire = ExpireFunction(
            adapter,
            answers=self._answers,
            now=now,
            given=lambda at_ms: None if self._sweeper is None else self._sweeper.given(at_ms),
        )

        def written(change: Change) -> None:
            if change.old is not None and change.new is None:
                emptied.add(change.scope)
            publisher.written(change, 0)

        gate = Gate()
        self._imports = ImportFunction(
            adapter, settings=settings, gate=gate, answers=self._answers, written=written
        )
        functions: dict[str, Handler] = {
            "state::set": writes.set,
            "state::get": reads.get,
            "state::delete": writes.delete,
            "state::update": writes.update,
            "state::list": reads.list,
            "state::list_groups": reads.list_groups,
            "state::compare-and-set": writes.compare_and_set,
            "state::list_keys": reads.list_keys,
            "state::list_entries": reads.list_entries,
            EXPIRE: expire,
            HISTORY: HistoryFunction(adapter, answers=self._answers),
            PAST: PastFunction(adapter, answers=self._answers, now=now),
        }
        if not adapter.shared:
            functions = {name: gate.guard(handler) for name, handler in functions.items()}
        self.functions: dict[str, Handler] = {
            **functions,
            CHANGES: self._changes,
            IMPORT: self._imports,
        }

    @property
    def descriptions(self) -> Sequence[FunctionInfo]:
        """Description and schemas of each function, for introspection."""
        return (
            *FUNCTIONS,
            changes_request.INFO,
            expire_function.INFO,
            history_function.INFO,
            past_function.INFO,
            imports.INFO,
        )

    async def start(self) -> None:
        """Begin to follow the changes of a shared adapter, unless that can wait until somebody listens."""
        if self._feed is not None and not self._on_demand:
            self._feed.start()
        if self._adapter.maintenance_seconds is not None:
            self._beside.append(asyncio.ensure_future(self._maintain(self._adapter.maintenance_seconds)))
        if self._sweeper is not None:
            self._beside.append(asyncio.ensure_future(self._sweeper.run()))
        self._beside.append(asyncio.ensure_future(self._tell_health()))
        await self._imports.start()

    async def _tell_health(self) -> None:
        """What a person should know of the store, once."""
        name = self._adapter.name
        try:
            health = await asyncio.wait_for(self._adapter.health(), CALL_SECONDS)
        except Exception as error:
            log.warning("the health of the adapter '%s' is not known: %s", name, error)
            return
        for sentence in (*((health.message,) if not health.ok else ()), *health.warnings):
            log.warning("adapter '%s': %s", name, sentence)

    async def _maintain(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._adapter.maintain()
            except Exception as error:
                log.warning("maintenance of the adapter '%s' failed: %s", self._adapter.name, error)

    def listen(self) -> None:
        """A listener came: it hears of every write from now on."""
        if self._feed is not None and self._on_demand:
            self._feed.start()

    async def close(self) -> None:
        """Stop following changes and wait for the answers that are under way."""
        self._changes.close()
        await self._imports.close()
        for task in self._beside:
            task.cancel()
        if self._beside:
            await asyncio.wait(self._beside)
        if self._feed is not None:
            await self._feed.close()
        await self._answers.close()
        self.publisher.close()

    def abandon(self) -> int:
        """Give up what `close` did not see the end of; how many calls are refused by it."""
        if self._feed is not None:
            self._feed.abandon()
        return self._answers.abandon()
