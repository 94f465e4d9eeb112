"""Outcome: what a check found, and one way to mend it."""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec


class Status(enum.Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """It works, but not as well or as safely as it could."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """There is nothing to look at in this set-up, or the cause is named by another check."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Outcome(msgspec.Struct, frozen=True):
    """One result; `mend` is a safe way to put it right, and says what it did."""

    status: Status
    found: str
    fix: str = ""
    mend: Callable[[], str] | None = None


_MARKS = (": ", "; ", ". ")
_IMPERATIVES = re.compile(
    r"(add|allow|change|choose|close|correct|delete|end|free|give|install|keep|leave|list|look|make|move|name|"
    r"put|remove|rename|repair|restore|set|start|stop|take|try|uninstall|update|use|write)\b",
    re.IGNORECASE,
)
"""With one of these words the remedy of a message begins."""

Outcomes: TypeAlias = Outcome | Sequence[Outcome]
Look: TypeAlias = Callable[..., Outcomes | Awaitable[Outcomes]]


class SetupCheck(msgspec.Struct, frozen=True):
    """One question about a set-up. When one of `after` failed, that is the cause, and this one is skipped."""

    id: str
    title: str
    look: Look
    page: str
    """Where it is explained: a page and the anchor of a heading."""
    after: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    id: str
    status: Status
    title: str
    found: str
    fix: str
    docs: str


def ok(found: str) -> Outcome:
    """Nothing is wrong."""
    return Outcome(Status.OK, found)


def warn(found: str, fix: str, *, mend: Callable[[], str] | None = None) -> Outcome:
    """It works, with a drawback."""
    return Outcome(Status.WARN, found, fix, mend)


def fail(found: str, fix: str, *, mend: Callable[[], str] | None = None) -> Outcome:
    """It is broken."""
    return Outcome(Status.FAIL, found, fix, mend)


def skipped(found: str) -> Outcome:
    """There is nothing to look at."""
    return Outcome(Status.SKIPPED, found)


def unknown(found: str, fix: str) -> Outcome:
    """It could not be looked at."""
    return Outcome(Status.UNKNOWN, found, fix)


def split_remedy(message: str, otherwise: str) -> tuple[str, str]:
    """A message of ours that names a fault and then its remedy, in two; `otherwise` where it names none."""
    for mark in _MARKS:
        found, separator, fix = message.rpartition(mark)
        if separator and _IMPERATIVES.match(fix):
            return found.rstrip(".") + ".", fix[:1].upper() + fix[1:]
    return message, otherwise


def page(section: str) -> str:
    """The address of a section of the page of this command."""
    return f"references/doctor.md#{section}"
