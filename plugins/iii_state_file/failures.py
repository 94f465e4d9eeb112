"""What an error of SQLite means for the store: wait, fail one call, or stop everything."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from iii_skill.errors import AdapterError, AdapterUnavailable

T = TypeVar("T")


class StoreBroken(Exception):
    """Nothing may be acknowledged or shown any more; `advice` says what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class DamagedRow(AdapterError):
    """One row is not what was written: that call fails, others go on."""

    def __init__(self, scope: str, key: str) -> None:
        super().__init__(
            f"The row of key {key!r} in scope {scope!r} is damaged (its checksum is wrong), so it is not "
            "given out: restore a copy of the store."
        )


class DamagedVersions(AdapterError):
    """A row that holds versions of keys is not what was written."""

    def __init__(self) -> None:
        super().__init__(
            "Versions of keys are damaged (a checksum is wrong), so they are not given out: restore a copy "
            "of the store."
        )


def damaged(what: str) -> StoreBroken:
    """Damage of the structure: what else it took is unknown."""
    return StoreBroken(f"its database is damaged: {what}", "restore a copy of it")


def is_passing(error: BaseException) -> bool:
    """True for the lock of another program, which goes away."""
    name = getattr(error, "sqlite_errorname", "")
    return bool(name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")))


def verdict(error: BaseException) -> AdapterError | StoreBroken:
    """What a failure comes to: the error of the calls that needed it, or the end of the store."""
    if isinstance(error, AdapterError | StoreBroken):
        return error
    if is_passing(error):
        return AdapterUnavailable("The store is locked by another program: close that one and try again.")
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_CONSTRAINT"):
        # The host knows every key that it stored.
        return StoreBroken("another program wrote to its database", "keep that from writing to it")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or (
        # Text that is no UTF-8 has no name, or is an error of Python's own.
        isinstance(error, UnicodeError | sqlite3.Error) and not name
    ):
        return damaged(str(error))
    return AdapterError(
        f"The store could not be read ({error}): try again, and check the disk if it stays so."
    )


READ_PATIENCE_SECONDS = 5
"""How long a read waits for the lock of another program."""


def patiently(work: Callable[[], T], ending: threading.Event, *, seconds: float) -> T:
    """Do the work, again and again while another program's lock forbids it, until it is time to end."""
    last = time.monotonic() + seconds
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if not is_passing(error) or ending.is_set() or time.monotonic() > last:
                raise
