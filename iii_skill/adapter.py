"""StateAdapter: the contract that a state-adapter plugin fulfils.

The rules, all of them tested by `iii_skill.testing.AdapterContract`:

* A value is opaque encoded JSON (`bytes`). Store it and give it back byte for byte; never parse it.
* Scope and key are any string: empty, NUL, 10,000 characters, not normalised. They never become a path.
* There is one mutation, `update`. It reads the current bytes, runs `change` and stores what that
  returned, all inside one atomic section per key. `change` is pure and quick; after a lost race run it
  again on the newer bytes. What `change` raises reaches the caller, and nothing is changed.
* The current bytes are those of the store, not of a cache: what any host was answered is seen by every
  later `get`, `list` and `change` of all hosts.
* `update` answers only when the write is as durable as `durability` declares, and a read never shows
  what a crash could take back.
* Every change of a key takes a revision above all earlier ones of that key, also across delete, re-create
  and restart, whatever the clock says and however much the store has forgotten since. A delete that found
  nothing takes one too. KEEP takes none: its Change has revision 0.
* `list` gives pairs in the order of each key's first insertion: an overwrite keeps the place, delete and
  set moves to the end. It is one moment, never a mix of two: one statement, one transaction or one command.
* Every method may be a plain `def` that returns the value (or a Deferred, or a Future), or an `async def`.
  All are called on the host's event loop and must not block it. The host sends events in the order of the
  answers, so a plain `def` applies and answers the changes of one key in the order of the calls. Reads may
  overtake calls that are under way. `async def` updates are put in order by the host.
* A caller may be cancelled while it waits; the store stays whole and later calls work.
* A call over a network ends: with an answer, or with an error within `CALL_SECONDS`. A write whose answer was
  lost is never sent again unless the store can tell that it was done: it ends with `AdapterTimeout`.
* No host waits for another one: whatever a host holds at the store lapses when that host stops.
* Errors: raise `AdapterUnavailable` (the call had no effect), `AdapterTimeout` (a write may have happened),
  `StorageFailed`, `StoreRefused` or `AdapterError` with one sentence that says what to do.
* A capability that is not declared is refused, never half-working.
"""

from __future__ import annotations

import abc
import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from iii_skill.deferred import Deferred
from iii_skill.errors import CapabilityMissing, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability

T = TypeVar("T")

ADAPTER_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
"""What the name of an adapter looks like."""
CALL_SECONDS: Final = 15.0
"""Within so many seconds every call is answered or refused, with an adapter's default settings."""
CHANGES_SECONDS: Final = 10.0
"""So many seconds after a lost connection can be made again, `changes()` has caught up."""


class NoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of an adapter that has no settings."""


class Page(msgspec.Struct, frozen=True, gc=False):
    """Some pairs of a scope, in order."""

    pairs: Sequence[tuple[str, bytes]]
    after: str | None
    """Where the next page begins, in the adapter's own words; None when this was the last one."""
    total: int
    """How many keys the scope holds now."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the store is, for people and tools."""

    ok: bool = True
    """False when calls cannot be answered now."""
    message: str = ""
    """One sentence that says what is wrong and what to do; empty when nothing is."""
    warnings: Sequence[str] = ()
    """What works but breaks a promise sooner or later, one sentence each with its remedy."""
    facts: Mapping[str, str | int | float | bool] = {}
    """What a person would look up: version of the server, size, replicas."""


class StateAdapter(abc.ABC):
    """A store of encoded JSON values under (scope, key). Made without arguments, then opened once."""

    name: ClassVar[str]
    """What users write: `--adapter NAME`, `adapter: {name: NAME}`. Lower case, digits, hyphens."""
    durability: ClassVar[Durability]
    """What an acknowledged write survives."""
    shared: ClassVar[bool] = False
    """True when other hosts write to the same store too; then `changes` yields everyone's Changes."""
    checked: ClassVar[bool] = False
    """True when the adapter itself makes sure that it gives out no bytes but those it was given (a checksum,
    or nobody else can write). Otherwise the host looks at every value, so that one which a stranger broke is
    an error of that call and not an answer that nobody can read."""
    changes_from_call: ClassVar[bool] = False
    """True when `changes()` counts from its call, not from when it is first awaited: what this host writes
    after the call is yielded. Then it is called only once somebody listens, and costs nothing before."""
    server_setting: ClassVar[str | tuple[str, str] | None] = None
    """The setting that names the server, as a URL or `host:port`, or the two for host and port. The kit puts
    its proxy there; by itself it takes the one that holds a URL, or those called `host` and `port`."""
    maintenance_seconds: ClassVar[float | None] = None
    """How often the host calls `maintain`; None: never."""
    config_type: ClassVar[type[msgspec.Struct]] = NoConfig
    """A frozen msgspec Struct with `forbid_unknown_fields`: the settings, their types and defaults. Each is
    described by `msgspec.Meta(description=...)` or by the text below it. Secrets come as `${VAR}` out of
    iii-config.yaml or the environment, never from the command line; no message of an adapter repeats them."""

    data_dir: Path | None = None
    """The absolute directory that holds the data, set by `open`; None when there is none."""
    on_failure: Callable[[StorageFailed], None] | None = None
    """Set by the host before `open`: call it when the store fails for good while nobody waits."""

    @abc.abstractmethod
    async def open(self, config: Any) -> None:
        """Open the store with a `config_type`; raise StoreRefused when it cannot be used as it is.

        A server that is away is no reason to refuse: log it once and go on; calls raise AdapterUnavailable
        until it is there. Wrong credentials, a wrong version or another layout are one. It ends within
        `CALL_SECONDS`, too.
        """

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

    def page(self, scope: str, after: str | None, limit: int) -> Answer[Page]:
        """At most `limit` pairs of `list(scope)`, from the start or after a former page.

        Pages that follow each other give every key that was there all the time exactly once, in order;
        a key that was made, deleted or moved meanwhile at most once. Override it where a page costs less than
        the scope; without that the only page is the whole scope.
        """
        pairs = self.list(scope)
        if isinstance(pairs, Sequence):
            return Page(pairs, None, len(pairs))

        async def later() -> Page:
            found = await pairs
            return Page(found, None, len(found))

        return later()

    def set(self, scope: str, key: str, value: bytes) -> Answer[Change]:
        """Store `value` whatever is there. Override it only for a cheaper round trip."""
        return self.update(scope, key, lambda _old: value)

    def delete(self, scope: str, key: str) -> Answer[Change]:
        """Remove the key if it is there. Override it only for a cheaper round trip."""
        return self.update(scope, key, lambda _old: None)

    def changes(self) -> AsyncIterator[Change]:
        """Every Change made by any host on this store from now on, own ones included. Only when `shared`.

        Each comes once; those of a key come in order of revision, those of different keys in any order. KEEP
        is none; a delete that found nothing is one. "Now" is when it is first awaited (with
        `changes_from_call`, when it is called). A change is yielded soon after its writer was answered, a
        second at most while nothing is wrong.

        It ends when the adapter is closed and never raises: a lost connection is waited out, and it goes on
        after the last change that it yielded, `CHANGES_SECONDS` after the server is back at the latest. So it
        reads a log with positions, and no connection that only tells what happens from now on. Where the log
        was trimmed past its position, changes are lost: it logs one warning that names the remedy and goes on
        with the oldest that is left. A reader that is slow is waited for, in bounded memory; nothing is
        dropped for it. Other stores on the same server are not heard.
        """
        raise CapabilityMissing(
            f"The adapter '{self.name}' does not declare `shared`, so it has no changes()."
        )

    def changes_below(self, prefix: str) -> AsyncIterator[Change]:
        """The same for the scopes that begin with `prefix`, which begins with PRIVATE_SCOPES.

        Override it where those can be told apart cheaply: then neither costs what the other has to tell, and
        `changes()` may leave private scopes out.
        """
        return _below(self.changes(), prefix)

    async def health(self) -> Health:
        """How the store is now; within `CALL_SECONDS`, and without an error when the server is away."""
        return Health()

    async def maintain(self) -> None:  # noqa: B027 - optional
        """Drop what no promise needs any more: old entries of the log, marks of deleted keys.

        Called by the host every `maintenance_seconds` beside other calls. No answer depends on it.
        """

    async def erase(self) -> None:
        """Remove the store and all it holds, what other hosts wrote included; only tools and tests call it.

        The adapter is open and is closed after it. Without an override every key is deleted, which leaves
        tables and logs behind.
        """
        for scope in await settled(self.scopes()):
            for key in await settled(self.keys(scope)):
                await settled(self.delete(scope, key))


async def settled(answer: Answer[T]) -> T:
    """What a method of an adapter gives, awaited where it must be."""
    if inspect.isawaitable(answer):
        result: T = await answer
        return result
    return answer


async def _below(changes: AsyncIterator[Change], prefix: str) -> AsyncIterator[Change]:
    async for change in changes:
        if change.scope.startswith(prefix):
            yield change


__all__ = [
    "ADAPTER_NAME",
    "CALL_SECONDS",
    "CHANGES_SECONDS",
    "KEEP",
    "Answer",
    "Change",
    "ChangeFunction",
    "Deferred",
    "Durability",
    "Health",
    "NoConfig",
    "Page",
    "StateAdapter",
    "settled",
]
