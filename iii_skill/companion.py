"""Companion: the contract of a worker that a plugin brings into the host, and what the host gives it.

A companion offers functions and trigger types as a worker behind a socket does, but lives in the process of
the host and keeps what it must remember in a store of its own. The rules:

* A class is offered by the hook `iii_companions`. The host makes one object of it and calls `start` once,
  before any socket is open, and `stop` once, after the last request was taken and before the store closes.
* All of it runs on the host's event loop and must not block it. `start` waits a second at most for the store,
  which may hang or be away: read it in a task that goes on, and let calls wait for that.
* A function answers its call exactly once, at once or later. What it promises is as durable as its writes:
  acknowledge after the store has answered.
* The store is the host's own adapter under scopes that `state::*` neither shows nor touches. It promises what
  that adapter declares (`durability`, `shared`), no more. There is no write over two keys.
* Ids of functions and trigger types that a companion has are the host's: no worker can claim them.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from iii_skill.adapter import NoConfig, StateAdapter, settled
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, Failure, Handler, Outcome, Result
from iii_skill.clock import Clock, Timer
from iii_skill.deferred import Deferred
from iii_skill.errors import AdapterError
from iii_skill.figures import Family
from iii_skill.filters.filter import Filter
from iii_skill.sources import Event, Hear, Source, SourceTriggers
from iii_skill.triggers import Match, Subscriber, Trigger, TriggerProvider
from iii_skill.values import KEEP, PRIVATE_SCOPES, Answer, Change, ChangeFunction, Durability
from iii_skill.websockets import WebSocketHandler, WebSocketPeer, WebSocketPort, WebSocketRequest

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
"""Seconds between tries to follow the changes of a store."""


class PrivateStore:
    """The scopes of one companion in the host's adapter; values are encoded JSON, as everywhere.

    Every method gives what the adapter gives: the value itself, or an awaitable of it.
    `await store.read(...)` takes both; `store.settle` calls back without a task. No method raises: of an
    adapter that does so at once the answer fails. The scope of a Change that an answer brings is the
    adapter's; that of a Change out of `changes()` is the one given here.
    """

    def __init__(self, adapter: StateAdapter, owner: str, answers: AdapterAnswers) -> None:
        self._adapter = adapter
        self._prefix = f"{PRIVATE_SCOPES}{owner}/"
        self._answers = answers
        self.durability: Durability = adapter.durability
        """What an acknowledged write survives."""
        self.shared = adapter.shared
        """True when companions of other hosts write into the same store."""
        self.reading = 0
        """How many are in `read`."""

    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """The stored bytes, or None."""
        try:
            return self._adapter.get(self._prefix + scope, key)
        except Exception as error:
            return _refused(error)

    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All pairs of a scope in order of first insertion; an overwrite keeps the place."""
        try:
            return self._adapter.list(self._prefix + scope)
        except Exception as error:
            return _refused(error)

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """The keys of a scope in the same order."""
        try:
            return self._adapter.keys(self._prefix + scope)
        except Exception as error:
            return _refused(error)

    def set(self, scope: str, key: str, value: bytes) -> Answer[Change]:
        """Store a value."""
        try:
            return self._adapter.set(self._prefix + scope, key, value)
        except Exception as error:
            return _refused(error)

    def delete(self, scope: str, key: str) -> Answer[Change]:
        """Remove a key."""
        try:
            return self._adapter.delete(self._prefix + scope, key)
        except Exception as error:
            return _refused(error)

    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run a pure function on the current bytes, in one atomic step."""
        try:
            return self._adapter.update(self._prefix + scope, key, change)
        except Exception as error:
            return _refused(error)

    async def scopes(self) -> Sequence[str]:
        """The scopes of this store that hold a key."""
        found = await settled(self._adapter.scopes())
        return [scope.removeprefix(self._prefix) for scope in found if scope.startswith(self._prefix)]

    async def read(self, answer: Answer[Any]) -> Any:
        """The value of any answer above."""
        self.reading += 1
        try:
            return await settled(answer)
        finally:
            self.reading -= 1

    def settle(
        self,
        answer: Answer[Any],
        subject: Any,
        done: Callable[[Any, Any], None],
        failed: Callable[[Any, BaseException], None],
        *,
        key: tuple[str, str] | None = None,
    ) -> None:
        """Call `done(subject, value)` or `failed(subject, error)`, at once when the value is there.

        `key` (scope and key) keeps the writes of an `async def` adapter to one key in the order of the calls.
        """
        self._answers.settle(answer, key, subject, done, failed)

    def changes(self) -> AsyncIterator[Change]:
        """The changes of this store's scopes made by any host from now on; only when `shared`."""
        return self._own(self._adapter.changes_below(self._prefix))

    def follow(
        self,
        heard: Callable[[Change], Awaitable[None]],
        *,
        log: logging.Logger,
        missed: Callable[[], Awaitable[None]] | None = None,
    ) -> asyncio.Task[None]:
        """Await `heard(change)` for each of `changes()`, in order, until the task is cancelled.

        When they break, or `heard` raises, that is logged and they are followed anew after a pause;
        `missed()` is for what happened in between, and may raise AdapterError.
        """
        return asyncio.ensure_future(self._follow(self.changes(), heard, log, missed))

    async def _follow(
        self,
        changes: AsyncIterator[Change],
        heard: Callable[[Change], Awaitable[None]],
        log: logging.Logger,
        missed: Callable[[], Awaitable[None]] | None,
    ) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async for change in changes:
                    pause = _FIRST_PAUSE_S
                    await heard(change)
            except Exception as error:
                log.warning("what other hosts do to the store cannot be followed: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            changes = self.changes()
            if missed is not None:
                with contextlib.suppress(AdapterError):
                    await missed()

    async def _own(self, changes: AsyncIterator[Change]) -> AsyncIterator[Change]:
        async for change in changes:
            yield msgspec.structs.replace(change, scope=change.scope.removeprefix(self._prefix))


def _refused(error: Exception) -> Deferred[Any]:
    """An answer that fails."""
    answer: Deferred[Any] = Deferred()
    answer.set_exception(error)
    return answer


class CompanionHost(Protocol):
    """What the host gives a companion."""

    store: PrivateStore
    """Its own scopes in the host's adapter."""
    clock: Clock
    """The host's time; use it instead of `time` and `loop.call_later`, so that tests can move it."""
    log: logging.Logger

    def add_function(
        self,
        function_id: str,
        function: Callable[[Any], Any],
        *,
        description: str | None = None,
        request_schema: Any = None,
        response_schema: Any = None,
    ) -> None:
        """Offer a Python callable, plain or `async`, from the decoded payload to the result.

        An IiiSkillError reaches the caller with its code; any other exception as `invocation_failed`.
        """

    def add_handler(
        self,
        function_id: str,
        handler: Handler,
        *,
        description: str | None = None,
        request_schema: Any = None,
        response_schema: Any = None,
    ) -> None:
        """Offer a function that takes the call with its payload encoded; it must reply exactly once."""

    def remove_function(self, function_id: str) -> None:
        """Take a function back."""

    def add_trigger_type(self, provider: TriggerProvider) -> None:
        """Provide a trigger type."""

    def add_source(self, source: Source) -> None:
        """Offer a private function that observers listen to; `source.happened` tells them of an event."""

    def enter(self, observer: Subscriber, call: Call) -> Callable[[], None] | Failure:
        """Make a call of the target, before it is invoked, one of an observer: its metadata, its count.

        Gives what says that the call has ended, or why it must not be made.
        """

    def fire(
        self, trigger: Trigger, payload: bytes, *, order: Hashable = None, condition: str | None = None
    ) -> None:
        """Call the trigger's function after every earlier event of the same trigger and `order`.

        `condition` names the function that is asked first. Errors and time-outs are logged, never repeated.
        """

    async def deliver(
        self, trigger: Trigger, payload: bytes, *, condition: str | None = None, timeout: float | None = 30.0
    ) -> Outcome | None:
        """Call the trigger's function with an event and its metadata; None when the condition said `false`.

        The answer or the error is given back, a time-out too (`TIMEOUT`, after `timeout` seconds in all).
        """

    def invoke(self, call: Call) -> None:
        """Route a call; its `reply` is called exactly once. There is no time-out: `abandon` ends the wait."""

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more."""

    async def call(
        self,
        function_id: str,
        payload: Any = None,
        *,
        namespace: str | None = None,
        metadata: Any = None,
        timeout: float | None = 30.0,
    ) -> Any:
        """The decoded result of a function (None also without one); raises InvocationError."""

    def serves(self, function_id: str, namespace: str | None = None) -> bool:
        """True when a call of the function would find one."""

    def serve_websocket(self, port: WebSocketPort) -> None:
        """Open a port when the host serves; a host without sockets opens none."""

    def on_functions(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever functions were registered or removed."""


class Companion(abc.ABC):
    """A worker inside the host. Made without arguments, then started once."""

    name: ClassVar[str]
    """What a configuration file lists, and introspection shows: `iii-queue`."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names of the same worker in configuration files."""
    description: ClassVar[str] = ""
    config_type: ClassVar[type[msgspec.Struct]] = NoConfig
    """A frozen msgspec Struct: the settings of its section, their types, bounds and defaults."""
    on_by_default: ClassVar[bool] = False
    """True when it runs in a host without a configuration file."""

    @abc.abstractmethod
    async def start(self, host: CompanionHost, settings: Any) -> None:
        """Register what it offers and take up what its store holds; raise ConfigurationError to refuse."""

    async def stop(self) -> None:  # noqa: B027 - many have nothing to do
        """Start nothing new, let what runs end, and release what it holds; safe to call twice.

        The host waits until its grace is over and then goes on.
        """

    def ready(self) -> dict[str, Any]:
        """What the line of readiness says of it, as JSON."""
        return {}

    async def families(self) -> Sequence[Family]:
        """Its figures for those who watch the host, read now; it gives up the turn while it counts many."""
        return ()


__all__ = [
    "KEEP",
    "Answer",
    "Call",
    "Change",
    "ChangeFunction",
    "Clock",
    "Companion",
    "CompanionHost",
    "Durability",
    "Event",
    "Failure",
    "Family",
    "Filter",
    "Handler",
    "Hear",
    "Match",
    "NoConfig",
    "Outcome",
    "PrivateStore",
    "Result",
    "Source",
    "SourceTriggers",
    "Subscriber",
    "Timer",
    "Trigger",
    "TriggerProvider",
    "WebSocketHandler",
    "WebSocketPeer",
    "WebSocketPort",
    "WebSocketRequest",
]
