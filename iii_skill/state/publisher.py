"""What became of a write, told to whoever fires triggers."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeAlias

import msgspec

from iii_skill.adapter_answers import Done, Failed
from iii_skill.calls import CHAIN, TRACE
from iii_skill.readable import is_json
from iii_skill.state.awaited_writes import AwaitedWrites
from iii_skill.state.change_log import ChangeLog
from iii_skill.state.scopes import is_reserved
from iii_skill.state.settings import LiveSettings
from iii_skill.values import Change

Publish: TypeAlias = Callable[[Change], None]


_REMEMBERED = 1000
_NO_CAUSE = (0, None)


class Publisher:
    """Publishes and records changes, each write once: those of a shared store come from its stream alone."""

    def __init__(
        self,
        publish: Publish,
        settings: LiveSettings,
        *,
        log: ChangeLog,
        listeners: Sized,
        shared: bool,
        unsure: bool,
    ) -> None:
        self._log = log
        self._publish = publish
        self._listeners = listeners
        self._settings = settings
        self._shared = shared
        self._unsure = unsure
        self._plain = not (shared or unsure)
        self.on_promised: Callable[[Change], None] | None = None
        """Called for each own write that the stream of a shared store has to tell of, when it is answered."""
        self._causes: dict[tuple[str, str, int], tuple[int, str | None]] = {}
        """Own writes out of triggers or traces that the store will tell of."""
        self._awaited = AwaitedWrites(self._tell)

    def awaits(self, scope: str, key: str, done: Done, failed: Failed) -> tuple[Done, Failed]:
        """A write out of a trigger or a trace is not answered yet: what is to listen to its answer."""
        if not self._shared:
            return done, failed
        return self._awaited.add((scope, key), done, failed)

    def close(self) -> None:
        """Nothing is told any more."""
        self._awaited.close()

    def written(self, change: Change, chain: int, trace: str | None = None) -> None:
        """An own write was answered, after `chain` triggers in a row, for a caller whose `traceparent` is
        `trace`; a shared store tells of it again.
        """
        if not self._listeners:
            if not self._log.recording:
                return
            if self._plain:
                # Nobody but the log: whatever led to the write tells it nothing.
                if change.revision:
                    self._log.append(change)
                return
        if self._shared:
            if chain or trace is not None:
                self._remember(change, chain, trace)
            if self.on_promised is not None and not change.kept and not is_reserved(change.scope):
                self.on_promised(change)
        elif CHAIN.get() == chain and TRACE.get() == trace:
            self.fire(change)
        else:
            self._fire_after(chain, trace, change)

    def fire(self, change: Change) -> None:
        """A key was changed."""
        if self._shared and is_reserved(change.scope):
            return
        if self._awaited:
            known = (change.scope, change.key, change.revision) in self._causes
            if self._awaited.holds(change, known=known):
                # Before its answer it is not known whether the change is of this host, and what led to it.
                return
        if self._causes:
            self._tell(change)
        else:
            self._fire(change)

    def _tell(self, change: Change) -> None:
        cause = self._causes.pop((change.scope, change.key, change.revision), _NO_CAUSE)
        if cause == (CHAIN.get(), TRACE.get()):
            self._fire(change)
        else:
            self._fire_after(*cause, change)

    def _fire(self, change: Change) -> None:
        if change.kept:
            return
        if self._unsure:
            old, new = self.readable(change.old), self.readable(change.new)
            change = msgspec.structs.replace(change, old=old, new=new)
        if self._log.recording:
            self._log.append(change)
        if self._settings.current.triggers_enabled and self._listeners:
            self._publish(change)

    def _fire_after(self, chain: int, trace: str | None, change: Change) -> None:
        token, traced = CHAIN.set(chain), TRACE.set(trace)
        try:
            self._fire(change)
        finally:
            CHAIN.reset(token)
            TRACE.reset(traced)

    def _remember(self, change: Change, chain: int, trace: str | None) -> None:
        if change.kept:
            return
        if len(self._causes) >= _REMEMBERED:
            del self._causes[next(iter(self._causes))]
        self._causes[(change.scope, change.key, change.revision)] = (chain, trace)

    def readable(self, value: bytes | None) -> bytes | None:
        """The value, or None when a stranger wrote something into a shared store that is no JSON."""
        return value if value is None or not self._unsure or is_json(value) else None
