"""What became of a write, told to whoever fires triggers."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeAlias

import msgspec

from iii_skill.calls import CHAIN
from iii_skill.readable import is_json
from iii_skill.state.change_log import ChangeLog
from iii_skill.state.scopes import is_reserved
from iii_skill.state.settings import LiveSettings
from iii_skill.values import Change

Publish: TypeAlias = Callable[[Change], None]


_REMEMBERED = 1000


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
        self._chains: dict[tuple[str, str, int], int] = {}
        """Own writes out of triggers that the store will tell of."""

    def written(self, change: Change, chain: int) -> None:
        """An own write was answered, after `chain` triggers in a row; a shared store tells of it again."""
        if not (self._listeners or self._log.recording):
            return
        if self._shared:
            if chain:
                self._remember(change, chain)
        elif CHAIN.get() == chain:
            self.fire(change)
        else:
            self._fire_after(chain, change)

    def fire(self, change: Change) -> None:
        """A key was changed."""
        if self._shared and is_reserved(change.scope):
            return
        if self._chains:
            chain = self._chains.pop((change.scope, change.key, change.revision), 0)
            if chain != CHAIN.get():
                self._fire_after(chain, change)
                return
        self._fire(change)

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

    def _fire_after(self, chain: int, change: Change) -> None:
        token = CHAIN.set(chain)
        try:
            self._fire(change)
        finally:
            CHAIN.reset(token)

    def _remember(self, change: Change, chain: int) -> None:
        if len(self._chains) >= _REMEMBERED:
            del self._chains[next(iter(self._chains))]
        self._chains[(change.scope, change.key, change.revision)] = chain

    def readable(self, value: bytes | None) -> bytes | None:
        """The value, or None when a stranger wrote something into a shared store that is no JSON."""
        return value if value is None or not self._unsure or is_json(value) else None
