"""KeyCommand: a key's queue as a command of Redis, so that it is sent without another object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iii_skill.adapters.shared import Key, KeyQueue, KeyQueues

from .commands import CommandRules, revision
from .layout import Bucket, PackedPlace
from .server_errors import adapter_error
from .store import RedisStore


class KeyCommand(KeyQueue, CommandRules, eq=False, kw_only=True):
    """HGET for the question, the script SWAP for the swap."""

    shows = True
    backend: RedisStore
    bucket: Bucket
    place: PackedPlace
    command: bytes = b""
    resent: int = 0
    writes: bool = False

    def ask(self) -> None:
        self.writes = False
        self.command = self.backend.pack_read(self.place, self.key)
        self._send()

    def swap(self, base: bytes | None, values: Sequence[bytes | None]) -> None:
        raw = [base or b"", *(value or b"" for value in values)]
        sizes = [*map(len, raw)]
        if max(sizes) > self.backend.large:
            # Each value is in the stream twice: as the new one, then as the old one.
            self.backend.grow(self.bucket, 2 * sum(sizes))
        self.writes = bool(values)
        backend = self.backend
        ends = backend.ends.looks(self.bucket)
        if ends or backend.history is not None:
            self.command = backend.pack_swap(self.key, raw, ends=ends)
        else:
            self.command = self.place.swap(self.key[1], raw)
        self._send()

    def swap_one(self, base: bytes, new: bytes | None) -> None:
        value = new or b""
        backend = self.backend
        if (
            len(base) + len(value) > backend.large
            or backend.history is not None
            or backend.ends.looks(self.bucket)
        ):
            self.swap(base, (new,))
            return
        self.writes = True
        self.command = self.place.swap_one(self.key[1], base, value)
        backend.send(self)

    def _send(self) -> None:
        self.resent = 0
        self.backend.send(self)

    def answered(self, value: Any) -> None:
        if self.values is None:
            self.current(value)
        elif not value:
            # Only compared, and equal.
            self.swapped(())
        elif value[0] is None:
            # The race was lost.
            self.current(value[1])
        elif len(value) == 1 and type(value[0]) is bytes:
            # Most swaps are of one value.
            self.swapped((revision(value[0]),))
        else:
            self.swapped([revision(v) if type(v) is bytes else adapter_error(v) for v in value])


class KeyCommands(KeyQueues[KeyCommand]):
    """The queues of a Redis."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store.known, timeout=store.timeout, server="Redis")
        self._store = store

    def new(self, key: Key) -> KeyCommand:
        place = self._store.layout.places[key[0]]
        queue = self.by_key[key] = KeyCommand(
            queues=self, key=key, backend=self._store, bucket=place.bucket, place=place
        )
        return queue
