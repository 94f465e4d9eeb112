"""Environment: what lies in the LMDB files, and the transactions on it (all called from one thread).

`scopes` maps a hash of the scope to its number, its count of keys and its name. `places` maps a scope's
number and a hash of the key to the position of the key. `entries` maps a scope's number and a position to
key and value, so that a range of it is a scope in order. Hashes, because LMDB keys end at 511 bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path

import lmdb

from iii_skill.errors import StorageFailed, StoreRefused
from iii_skill.values import KEEP, Change, ChangeFunction

NUMBERS = struct.Struct(">QQ")
NUMBER = struct.Struct(">Q")


class Environment:
    """An LMDB environment in a directory that one process has open."""

    def __init__(self, place: Path, map_size: int) -> None:
        self._place = place
        self._map_size = map_size
        self._guard: int | None = None
        self._lmdb: lmdb.Environment | None = None

    def open(self) -> None:
        """Lock the directory and open the environment."""
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        guard = os.open(self._place / "host.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(guard)
            raise StoreRefused(
                f"Another host has {self._place} open; end it or set another data_dir."
            ) from None
        self._guard = guard
        try:
            self._lmdb = lmdb.open(str(self._place), map_size=self._map_size, max_dbs=4, mode=0o600)
        except lmdb.Error as error:
            raise StoreRefused(f"LMDB cannot open {self._place}: {error}.") from error
        self._counters, self._scopes, self._places, self._entries = (
            self._lmdb.open_db(name) for name in (b"counters", b"scopes", b"places", b"entries")
        )

    def close(self) -> None:
        """Close the environment and let go of the directory."""
        if self._lmdb is not None:
            self._lmdb.close()
            self._lmdb = None
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    def get(self, scope: str, key: str) -> bytes | None:
        """The value of a key."""
        with self._begin() as transaction:
            number, _ = self._scope(transaction, scope)
            found = self._find(transaction, number, key)
            return None if found is None else found[1]

    def list(self, scope: str) -> list[tuple[str, bytes]]:
        """The pairs of a scope in order of position."""
        with self._begin() as transaction:
            number, _ = self._scope(transaction, scope)
            prefix, pairs = NUMBER.pack(number), []
            cursor = transaction.cursor(self._entries)
            if number and cursor.set_range(prefix):
                for place, entry in cursor:
                    if not place.startswith(prefix):
                        break
                    pairs.append(_unpack(entry))
            return pairs

    def scopes(self) -> list[str]:
        """The names of all scopes with keys."""
        with self._begin() as transaction:
            return [record[NUMBERS.size :].decode() for _, record in transaction.cursor(self._scopes)]

    def update(self, scope: str, key: str, change: ChangeFunction) -> Change:
        """Run `change` in a write transaction; the map is doubled and it runs again when the map is full."""
        while True:
            try:
                with self._begin(write=True) as transaction:
                    return self._update(transaction, scope, key, change)
            except lmdb.MapFullError:
                self._map_size *= 2
                assert self._lmdb is not None
                self._lmdb.set_mapsize(self._map_size)
            except (lmdb.DiskError, lmdb.CorruptedError, lmdb.PanicError) as error:
                raise StorageFailed(f"LMDB failed in {self._place}: {error}.") from error

    def _update(self, transaction: lmdb.Transaction, scope: str, key: str, change: ChangeFunction) -> Change:
        number, count = self._scope(transaction, scope)
        found = self._find(transaction, number, key)
        old = None if found is None else found[1]
        new = change(old)
        if new is KEEP:
            return Change(scope, key, old, old, 0)
        revision = self._next(transaction, b"revision")
        if new is None:
            if found is not None:
                transaction.delete(NUMBERS.pack(number, found[0]), db=self._entries)
                transaction.delete(_place(number, key), db=self._places)
                self._count(transaction, scope, number, count - 1)
            return Change(scope, key, old, None, revision)
        if found is None:
            number = number or self._next(transaction, b"scope")
            self._count(transaction, scope, number, count + 1)
            position = self._next(transaction, b"position")
            transaction.put(_place(number, key), NUMBER.pack(position), db=self._places)
        else:
            position = found[0]
        transaction.put(NUMBERS.pack(number, position), _pack(key, new), db=self._entries)
        return Change(scope, key, old, new, revision)

    def _begin(self, *, write: bool = False) -> lmdb.Transaction:
        assert self._lmdb is not None
        return self._lmdb.begin(write=write)

    def _scope(self, transaction: lmdb.Transaction, scope: str) -> tuple[int, int]:
        """The number of a scope and how many keys it has; 0 and 0 when it has none."""
        record = transaction.get(_hash(scope), db=self._scopes)
        return (0, 0) if record is None else NUMBERS.unpack(record[: NUMBERS.size])

    def _count(self, transaction: lmdb.Transaction, scope: str, number: int, count: int) -> None:
        if count:
            record = NUMBERS.pack(number, count) + scope.encode()
            transaction.put(_hash(scope), record, db=self._scopes)
        else:
            transaction.delete(_hash(scope), db=self._scopes)

    def _find(self, transaction: lmdb.Transaction, number: int, key: str) -> tuple[int, bytes] | None:
        """Position and value of a key."""
        place = transaction.get(_place(number, key), db=self._places)
        if place is None:
            return None
        (position,) = NUMBER.unpack(place)
        entry = transaction.get(NUMBERS.pack(number, position), db=self._entries)
        return position, _unpack(entry)[1]

    def _next(self, transaction: lmdb.Transaction, name: bytes) -> int:
        (last,) = NUMBER.unpack(transaction.get(name, NUMBER.pack(0), db=self._counters))
        transaction.put(name, NUMBER.pack(last + 1), db=self._counters)
        return int(last) + 1


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _place(number: int, key: str) -> bytes:
    return NUMBER.pack(number) + _hash(key)


def _pack(key: str, value: bytes) -> bytes:
    name = key.encode()
    return NUMBER.pack(len(name)) + name + value


def _unpack(entry: bytes) -> tuple[str, bytes]:
    (length,) = NUMBER.unpack(entry[: NUMBER.size])
    end = NUMBER.size + length
    return entry[NUMBER.size : end].decode(), entry[end:]
