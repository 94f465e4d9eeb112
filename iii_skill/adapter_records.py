"""What adapters take and give beside bytes: pages, logged changes, versions, ends and health.

Authors of adapters import all of it from `iii_skill.adapter`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec

from iii_skill.values import Change

OLDEST: Final = "oldest"
"""In the place of a cursor: the oldest change that is kept."""


class NoConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration of an adapter that has no settings."""


class Page(msgspec.Struct, frozen=True, gc=False):
    """Some pairs of a scope, in order."""

    pairs: Sequence[tuple[str, bytes]]
    after: str | None
    """Where the next page begins, in the adapter's own words; None when this was the last one."""
    total: int
    """How many keys the scope holds now."""


class Write(msgspec.Struct, frozen=True, gc=False):
    """One of many writes that are made together."""

    scope: str
    key: str
    value: bytes | None
    """None: the key is deleted."""
    if_absent: bool
    """Only if the key is not there."""


class LoggedChange(msgspec.Struct, frozen=True, gc=False):
    """A change, the cursor after it, and when it was made (ms since 1970)."""

    change: Change
    cursor: str
    at_ms: int


class LogPage(msgspec.Struct, frozen=True):
    """Some changes that follow a cursor."""

    rows: Sequence[LoggedChange]
    next: str
    """The cursor after all that was looked at; there may be more behind it."""
    oldest: str
    """The earliest cursor that can be gone on from."""


class HistorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is kept of what keys held before: of each key so many versions, for so long."""

    keep: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """Versions of a key, the newest included."""
    days: Annotated[float, msgspec.Meta(gt=0, le=36_500)] = 7.0
    """Days that a version is kept after it was replaced."""

    @property
    def days_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.days * 86_400_000)


class Version(msgspec.Struct, frozen=True, gc=False):
    """What a change left in a key."""

    revision: int
    at_ms: int
    """When, in ms since 1970."""
    value: bytes | None
    """None: the key was deleted, or its end came."""


class PastKey(msgspec.Struct, frozen=True, gc=False):
    """What a key held at a past moment, or that nobody can tell."""

    scope: str
    key: str
    value: bytes | None
    """None: there was no such key; or it is not known."""
    known_from_ms: int | None = None
    """Not None: what it held then is not kept; from this moment (ms since 1970) on it is."""


class PastPage(msgspec.Struct, frozen=True):
    """Some keys of a past moment."""

    keys: Sequence[PastKey]
    after: str | None
    """Where the next page begins, in the adapter's own words; None when this was the last one."""
    whole_from: int
    """Of every key that was there at this moment (as of `moment_at`) or later something is kept. Before it
    there may have been keys that no page tells of."""
    whole_from_ms: int
    """When that was."""


class Expiry(msgspec.Struct, frozen=True, gc=False):
    """When a key ends."""

    found: bool
    """False when there is no such key; then it has no end either."""
    at_ms: int | None = None
    """Milliseconds since 1970; None: never."""


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
