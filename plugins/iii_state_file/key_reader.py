"""KeyReader: reads single keys on a connection and a thread of its own, so that a slow disk blocks nobody.

Every row is checked against its checksum, every absence against a second index: damage is an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from iii_skill.errors import AdapterError
from iii_state_file.checksums import expiry_checksum, name_checksum, row_checksum
from iii_state_file.failures import (
    READ_PATIENCE_SECONDS,
    DamagedRow,
    StoreBroken,
    damaged,
    patiently,
    verdict,
)
from iii_state_file.queue_thread import QueueThread
from iii_state_file.schema import WITH_ENDS, connect

# One statement looks up many keys: every statement costs a lock, every step a fight for the interpreter.
_COUNTS = (64, 16, 4, 1)


class StoredKey(NamedTuple):
    """What the database holds of a key; position 0 and no value where there is no such key."""

    start: int
    """What its checksums start from."""
    position: int
    revision: int
    value: bytes | None
    ends: int = 0
    """When it ends; 0: never."""
    version: int = 0
    """The revision of its last version, if it was kept; 0: none was."""


class KeyReader:
    """Reads current rows of single keys, all that are queued at once."""

    def __init__(
        self,
        path: Path,
        ending: threading.Event,
        *,
        found: Callable[[Sequence[tuple[str, str]], Sequence[StoredKey | AdapterError]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connect(path, "ro")
        self.with_ends = False
        """True as soon as a key may have an end."""
        self.with_history = False
        """True when versions of keys are kept."""
        self._ending = ending
        self._found = found
        self._failed = failed
        self._thread: QueueThread[list[tuple[str, str]]] = QueueThread(
            "reader", self._work, end=self._connection.close
        )
        self.put = self._thread.put
        self.stop = self._thread.stop
        self.join = self._thread.join

    def _work(self, jobs: list[list[tuple[str, str]]]) -> None:
        names = [name for job in jobs for name in job]
        try:
            self._found(
                names, patiently(lambda: self._look_up(names), self._ending, seconds=READ_PATIENCE_SECONDS)
            )
        except Exception as error:
            failure = verdict(error)
            if isinstance(failure, StoreBroken):
                self._failed(failure)
            else:
                self._found(names, [failure] * len(names))

    def _look_up(self, names: list[tuple[str, str]]) -> list[StoredKey | AdapterError]:
        found: list[StoredKey | AdapterError | None] = [None] * len(names)
        texts = [text for name in names for text in name]
        for start, count in _parts(len(names)):
            query = _by_key(count, with_ends=self.with_ends)
            rows = self._connection.execute(query, texts[2 * start : 2 * (start + count)]).fetchall()
            for place, position, revision, checksum, value, *end in rows:
                found[start + place] = _checked(
                    names[start + place], position, revision, checksum, value, *end
                )
        absent = [place for place, row in enumerate(found) if row is None]
        for start, count in _parts(len(absent)):
            texts = [text for place in absent[start : start + count] for text in names[place]]
            for (place,) in self._connection.execute(_again(count), texts).fetchall():
                scope, key = names[absent[start + place]]
                raise damaged(f"the index of keys lost {key!r} in scope {scope!r}")
        for place in absent:
            found[place] = StoredKey(name_checksum(*names[place]), 0, 0, None)
        if self.with_history:
            self._look_up_gone(names, absent, found)
        return [row for row in found if row is not None]

    def _look_up_gone(
        self, names: list[tuple[str, str]], absent: list[int], found: list[StoredKey | AdapterError | None]
    ) -> None:
        """Keys that are not there may have versions."""
        without: list[int] = []
        for start, count in _parts(len(absent)):
            part = absent[start : start + count]
            texts = [text for place in part for text in names[place]]
            rows = self._connection.execute(_gone(count), texts).fetchall()
            for at, version, checksum in rows:
                start_of = name_checksum(*names[part[at]])
                whole = row_checksum(start_of, 0, version, b"") == checksum
                found[part[at]] = (
                    StoredKey(start_of, 0, 0, None, 0, version) if whole else DamagedRow(*names[part[at]])
                )
            those = {at for at, _, _ in rows}
            without += [place for at, place in enumerate(part) if at not in those]
        for start, count in _parts(len(without)):
            texts = [text for place in without[start : start + count] for text in names[place]]
            for (place,) in self._connection.execute(_gone_again(count), texts).fetchall():
                scope, key = names[without[start + place]]
                raise damaged(f"an index lost the versions of key {key!r} in scope {scope!r}")


def _checked(
    asked: tuple[str, str],
    position: Any,
    revision: Any,
    checksum: Any,
    value: Any,
    ends: Any = None,
    end_checksum: Any = None,
) -> StoredKey | AdapterError:
    start = name_checksum(*asked)
    try:
        if row_checksum(start, position, revision, value) == checksum:
            if ends is None:
                return StoredKey(start, position, revision, value, 0, revision)
            if expiry_checksum(position, ends) == end_checksum:
                return StoredKey(start, position, revision, value, ends, revision)
    except TypeError:
        pass  # A damaged header changes types, too.
    return DamagedRow(*asked)


def _parts(length: int) -> list[tuple[int, int]]:
    """Start and length of the parts that fill it, each as long as one of the statements."""
    parts = []
    start = 0
    while start < length:
        count = next(size for size in _COUNTS if size <= length - start)
        parts.append((start, count))
        start += count
    return parts


def _asked(count: int) -> str:
    """The names that a statement is given, each with its number in `column1`."""
    return f"(VALUES {', '.join(f'({place}, ?, ?)' for place in range(count))})"


@cache
def _by_key(count: int, *, with_ends: bool) -> str:
    columns = "asked.column1, entries.position, entries.revision, entries.checksum, entries.value"
    if with_ends:
        columns += ", expiries.at_ms, expiries.checksum"
    found = (
        f"SELECT {columns} FROM {_asked(count)} AS asked "
        "CROSS JOIN entries INDEXED BY entries_by_key "
        "ON entries.scope = asked.column2 AND entries.key = asked.column3"
    )
    return f"{found} {WITH_ENDS}" if with_ends else found


@cache
def _again(count: int) -> str:
    return (
        f"SELECT asked.column1 FROM {_asked(count)} AS asked "
        "CROSS JOIN entries INDEXED BY entries_again ON key = asked.column3 AND scope = asked.column2"
    )


@cache
def _gone(count: int) -> str:
    """The last versions of keys that are not there."""
    return (
        f"SELECT asked.column1, revision, checksum FROM {_asked(count)} AS asked "
        "CROSS JOIN gone INDEXED BY gone_by_key ON scope = asked.column2 AND key = asked.column3"
    )


@cache
def _gone_again(count: int) -> str:
    return (
        f"SELECT asked.column1 FROM {_asked(count)} AS asked "
        "CROSS JOIN gone INDEXED BY gone_again ON key = asked.column3 AND scope = asked.column2"
    )
