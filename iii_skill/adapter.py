"""StateAdapter: the contract that a state-adapter plugin fulfils.

The rules, all of them tested by `iii_skill.testing.AdapterContract`:

* A value is opaque encoded JSON (`bytes`). Store it and give it back byte for byte; never parse it.
* Scope and key are any string: empty, NUL, 10,000 characters, not normalised. They never become a path.
* There is one mutation, `update`. It reads the current bytes, runs `change` and stores what that
  returned, all inside one atomic section per key. `change` is pure and quick; after a lost race run it
  again on the newer bytes. What `change` raises reaches the caller, and nothing is changed.
* `update` answers only when the write is as durable as `durability` declares, and a read never shows
  what a crash could take back.
* Every change of a key takes a revision above all earlier ones of that key, also across delete, re-create
  and restart. A delete that found nothing takes one too. KEEP takes none: its Change has revision 0.
* `list` gives pairs in the order of each key's first insertion: an overwrite keeps the place, delete and
  set moves to the end. It is one moment, never a mix of two.
* Every method may be a plain `def` that returns the value (or a Deferred, or a Future), or an `async def`.
  All are called on the host's event loop and must not block it. Answers for one key must come in the order of
  the calls when they are given by a plain `def`; `async def` updates are put in order by the host.
* A caller may be cancelled while it waits; the store stays whole and later calls work.
* Errors: raise `AdapterUnavailable`, `AdapterTimeout`, `StorageFailed`, `StoreRefused` or `AdapterError`
  with one sentence that says what to do.
* A capability that is not declared is refused, never half-working.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from iii_skill.deferred import Deferred
from iii_skill.errors import CapabilityMissing, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability


class NoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of an adapter that has no settings."""


class StateAdapter(abc.ABC):
    """A store of encoded JSON values under (scope, key). Made without arguments, then opened once."""

    name: ClassVar[str]
    """What users write: `--adapter NAME`, `adapter: {name: NAME}`. Lower case, digits, hyphens."""
    durability: ClassVar[Durability]
    """What an acknowledged write survives."""
    shared: ClassVar[bool] = False
    """True when other hosts write to the same store too; then `changes` yields everyone's Changes."""
    checked: ClassVar[bool] = False
    """True when a shared adapter gives out no value that a stranger broke, so that nobody looks again."""
    changes_from_call: ClassVar[bool] = False
    """True when `changes()` counts from its call, not from when it is first awaited: then it is only called
    once somebody listens."""
    config_type: ClassVar[type[msgspec.Struct]] = NoConfig
    """A frozen msgspec Struct with `forbid_unknown_fields`: the settings, their types and defaults."""

    data_dir: Path | None = None
    """The absolute directory that holds the data, set by `open`; None when there is none."""
    on_failure: Callable[[StorageFailed], None] | None = None
    """Set by the host before `open`: call it when the store fails for good while nobody waits."""

    @abc.abstractmethod
    async def open(self, config: Any) -> None:
        """Open the store with a `config_type`; raise StoreRefused when it cannot be used as it is."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Finish what was accepted, then release everything. Safe to call twice, and after a failed open."""

    @abc.abstractmethod
    def get(self, scope: str, key: str) -> Answer[bytes | None]:
        """The stored bytes, or None when there is no such key."""

    @abc.abstractmethod
    def list(self, scope: str) -> Answer[Sequence[tuple[str, bytes]]]:
        """All (key, bytes) of a scope in order of first insertion; empty for an unknown scope."""

    @abc.abstractmethod
    def scopes(self) -> Answer[Sequence[str]]:
        """Every scope that holds at least one key, in any order, without duplicates."""

    @abc.abstractmethod
    def update(self, scope: str, key: str, change: ChangeFunction) -> Answer[Change]:
        """Run `change` on the current bytes inside the atomic section and store what it returned."""

    def keys(self, scope: str) -> Answer[Sequence[str]]:
        """The keys of `list(scope)` in the same order. Override it where keys are cheaper than pairs."""
        pairs = self.list(scope)
        if isinstance(pairs, Sequence):
            return [key for key, _ in pairs]

        async def later() -> Sequence[str]:
            return [key for key, _ in await pairs]

        return later()

    def set(self, scope: str, key: str, value: bytes) -> Answer[Change]:
        """Store `value` whatever is there. Override it only for a cheaper round trip."""
        return self.update(scope, key, lambda _old: value)

    def delete(self, scope: str, key: str) -> Answer[Change]:
        """Remove the key if it is there. Override it only for a cheaper round trip."""
        return self.update(scope, key, lambda _old: None)

    def changes(self) -> AsyncIterator[Change]:
        """Every Change made by any host from now on, in order per key. Only when `shared` is declared."""
        raise CapabilityMissing(
            f"The adapter '{self.name}' does not declare `shared`, so it has no changes()."
        )


__all__ = ["KEEP", "Answer", "Change", "ChangeFunction", "Deferred", "Durability", "NoConfig", "StateAdapter"]
