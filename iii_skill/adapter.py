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
* With `expires` a key may have an end, a moment of `clock`. From then on no read and no `change` sees its
  value, whatever the store still holds. `set` and `delete` take the end away with the old value, `update`
  leaves it. An end that came is one change of the key: a delete with a revision of its own, made once, by
  `sweep` or by the first write that meets it, whichever comes first, and told before what is written then.
* A capability that is not declared is refused, never half-working.
"""

from __future__ import annotations

import abc
import collections
import inspect
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeVar

import msgspec

from iii_skill.adapter_records import (
    OLDEST,
    Expiry,
    Health,
    HistorySettings,
    LoggedChange,
    LogPage,
    NoConfig,
    Page,
    PastKey,
    PastPage,
    Version,
    Write,
)
from iii_skill.clock import Clock
from iii_skill.deferred import Deferred
from iii_skill.errors import CapabilityMissing, StorageFailed
from iii_skill.values import KEEP, Answer, Change, ChangeFunction, Durability, Keep

T = TypeVar("T")

ADAPTER_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
"""What the name of an adapter looks like."""
CALL_SECONDS: Final = 15.0
"""Within so many seconds every call is answered or refused, with an adapter's default settings."""
CHANGES_SECONDS: Final = 10.0
"""So many seconds after a lost connection can be made again, `changes()` has caught up."""
VERSIONS_BYTES: Final = 8 * 1024 * 1024
"""Where the values of versions have so many bytes `history` gives no more of them."""


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
    together: ClassVar[bool] = False
    """True when `write_together` is there. Only of use when `shared`: for a store of its own the host keeps a
    journal in it."""
    changes_from_call: ClassVar[bool] = False
    """True when `changes()` counts from its call, not from when it is first awaited: what this host writes
    after the call is yielded. Then it is called only once somebody listens, and costs nothing before."""
    logged: ClassVar[bool] = False
    """True when the store keeps its changes for a while: then `log_page` works. Only with `shared`."""
    log_setting: ClassVar[str | None] = None
    """The setting that says how many changes a `logged` store keeps, a number; the kit makes it small."""
    historical: ClassVar[bool] = False
    """True when earlier versions of keys can be kept: then `config_type` has the setting `history`, a
    HistorySettings or None, and while that is given `history` works."""
    expires: ClassVar[bool] = False
    """True when keys can have an end: then `expire` and `sweep` work."""
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

    on_expired: Callable[[Change], None] | None = None
    """Set by the host before `open` of an adapter that is not `shared`: call it with the Change of an end
    that came, once that is as durable as an answered write, and before a later write of it is answered."""
    clock: Clock = Clock()
    """Set by the host before `open`: `clock.now()` decides what has ended."""

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

    def expire(self, scope: str, key: str, at_ms: int | Literal[Keep.KEEP] | None) -> Answer[Expiry]:
        """Give a key an end (None: take it away, KEEP: only tell), as durable as a write; how it is then.

        It is in order with the writes of the key, takes no revision and is no Change. `at_ms` may be past:
        then the key is over at once. Only with `expires`.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no ends of keys: use another adapter.")

    def history(self, scope: str, key: str, before: int | None, limit: int) -> Answer[Sequence[Version]]:
        """At most `limit` versions of a key, the newest first, of revisions below `before` if that is given.

        It ends with the version with which the values reach `VERSIONS_BYTES`; where they do not and there are
        fewer than `limit`, these are the last.

        Every change that was answered is one, also a delete, an end that came, and a change whose value was
        replaced at once. What is shown is bounded by the settings: the last `keep` versions, and of those
        what was not replaced more than `days` ago. What the store holds beyond is dropped by `maintain`.
        Of a key that is over the end is made first, as by a write.
        Only with `historical`; private scopes have none.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no versions: use another adapter.")

    def moment_at(self, at_ms: int) -> Answer[int]:
        """The number of a past time in the order in which all keys changed; 0: before the first change.

        The changes up to such a number are a cut: those of each key up to one of its revisions; with a change
        also what was answered before it was called; of what was written together all or nothing. And it is
        settled: no change joins it any more. So it is no clock, and where several hosts write none of theirs
        puts changes in order. Where revisions rise over all keys of the store, it is that of the last change
        that was made at `at_ms` or before; else the store counts its commits for it. Where the clock was put
        back, it is a number at which the clock went past that time. Only with `historical`.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no versions: use another adapter.")

    def past(self, moment: int, after: str | None, limit: int) -> Answer[PastPage]:
        """What keys held at a moment, those that are gone now included, at most `limit` and some megabytes.

        Pages that follow each other tell of every key of which something is kept, and of none that is known
        twice, whatever is written meanwhile. A key whose versions do not reach back is told as not known,
        never left out; where `moment` is below `whole_from`, all are but those that did not change since.
        An end counts from the change that it is, not from its own moment, of which no version tells.
        An `after` that was never given is a CallerError with the code INVALID_CURSOR. Only with `historical`;
        private scopes are left out.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no versions: use another adapter.")

    def sweep(self) -> Answer[int | None]:
        """Delete keys that are over, the oldest ends first, at most some thousand in one call.

        Gives when the next end comes (ms since 1970), a moment that is past when more of them are over now,
        None when no key has one. The host calls it after `open`, when that moment has come, and of a `shared`
        adapter every second, since the ends that other hosts give may come at any time; several hosts may
        call it at once, and each end is made once. Only with `expires`.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no ends of keys: use another adapter.")

    def changes(self) -> AsyncIterator[Change]:
        """Every Change made by any host on this store from now on, own ones included. Only when `shared`.

        Each comes once; those of a key come in order of revision, those of different keys in any order. KEEP
        is none; a delete that found nothing is one. "Now" is when it is first awaited (with
        `changes_from_call`, for writes of this host, when it is called). A change is yielded soon after its
        writer was answered, a second at most while nothing is wrong.

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

    def log_page(self, after: str | None, limit: int) -> Answer[LogPage]:
        """The next changes after a cursor, those of a key in order of revision, private scopes left out.

        `after` is a cursor of any host, also of one that is gone, or OLDEST; None gives no changes, only the
        cursor of now. At most `limit` and some megabytes; only a page without rows was the last one. A cursor
        after which changes are forgotten, or that the store never gave, is CursorTooOld; what is no cursor is
        a CallerError with the code INVALID_CURSOR. Only with `logged`.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' keeps no log of changes.")

    def log_latest(self, after: str, count: int) -> Answer[tuple[int, str]]:
        """How many changes to pass over after a cursor so that `count` are left, and the cursor after them.

        For who cannot keep up. Override it where they can be counted without being read, and then pass over
        those that are forgotten, too; CursorTooOld is for a cursor that the store never gave.
        """
        return _latest(self, after, count)

    def changes_below(self, prefix: str) -> AsyncIterator[Change]:
        """The same for the scopes that begin with `prefix`, which begins with PRIVATE_SCOPES.

        Override it where those can be told apart cheaply: then neither costs what the other has to tell, and
        `changes()` may leave private scopes out.
        """
        return _below(self.changes(), prefix)

    async def write_together(self, writes: Sequence[Write]) -> int:
        """Make all writes or none, at one moment for every host; how many changed something.

        Only when `together`. Each is a Change as of `update`, in `changes()` too; no key is among them twice.
        It may take longer than `CALL_SECONDS`. AdapterTimeout: all or none of them were made.
        """
        raise CapabilityMissing(f"The adapter '{self.name}' does not declare `together`.")

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


def no_history(name: str) -> CapabilityMissing:
    """The error of `history` while none is kept."""
    return CapabilityMissing(
        f"The adapter '{name}' keeps no versions now: give its setting `history`, as {{keep: 100, days: 7}}."
    )


async def settled(answer: Answer[T]) -> T:
    """What a method of an adapter gives, awaited where it must be."""
    if inspect.isawaitable(answer):
        result: T = await answer
        return result
    return answer


async def _latest(adapter: StateAdapter, after: str, count: int) -> tuple[int, str]:
    passed, here = 0, after
    following: collections.deque[str] = collections.deque()
    while (page := await settled(adapter.log_page(after, 1000))).rows:
        after = page.next
        following.extend(row.cursor for row in page.rows)
        while len(following) > count:
            passed, here = passed + 1, following.popleft()
    return passed, here


async def _below(changes: AsyncIterator[Change], prefix: str) -> AsyncIterator[Change]:
    async for change in changes:
        if change.scope.startswith(prefix):
            yield change


class LazyAdapter(msgspec.Struct, frozen=True):
    """An adapter whose modules only its user imports: a hook may give this in place of the class."""

    name: str
    load: Callable[[], type[StateAdapter]]


__all__ = [
    "ADAPTER_NAME",
    "CALL_SECONDS",
    "CHANGES_SECONDS",
    "KEEP",
    "OLDEST",
    "VERSIONS_BYTES",
    "Answer",
    "Change",
    "ChangeFunction",
    "Clock",
    "Deferred",
    "Durability",
    "Expiry",
    "Health",
    "HistorySettings",
    "LazyAdapter",
    "LogPage",
    "LoggedChange",
    "NoConfig",
    "Page",
    "PastKey",
    "PastPage",
    "StateAdapter",
    "Version",
    "Write",
    "no_history",
    "settled",
]
