"""KeyReads: the values of keys, out of memory where the heads of their buckets say that they still hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Literal

from iii_skill.adapter import Clock
from iii_skill.adapters.shared import Key

from .current_values import UNKNOWN, CurrentValues, Head
from .layout import indexed, place_of, raw_name
from .session import Session
from .statements import Statements


class KeyReads:
    """Reads many keys at once, and remembers what it has read."""

    def __init__(self, statements: Statements, current: CurrentValues, clock: Clock) -> None:
        self._statements = statements
        self._current = current
        self._clock = clock

    async def of(self, connection: Session, keys: Sequence[Key]) -> Sequence[bytes | None]:
        """The value of each, None where there is no such key."""
        current, epoch = self._current, self._current.epoch
        buckets = [place_of(scope).bucket for scope, _ in keys]
        values: list[bytes | Literal[False] | None] = [UNKNOWN] * len(keys)
        asked = sorted({bucket for bucket in buckets if current.worth_asking(bucket)})
        if asked:
            rows = await connection.fetch(self._statements.heads, asked)
            held = {head.bucket for head in starmap(Head, rows) if current.holds(head)}
            values = [
                current.get(bucket, key) if bucket in held else UNKNOWN
                for bucket, key in zip(buckets, keys, strict=True)
            ]
        missing = [number for number, value in enumerate(values) if value is UNKNOWN]
        if missing:
            ids = sorted({buckets[number] for number in missing})
            heads, found = await self._read(connection, ids, [keys[number] for number in missing])
            for number, value in zip(missing, found, strict=True):
                values[number] = value
            if current.epoch == epoch:
                for head in heads:
                    pairs = zip(missing, found, strict=True)
                    current.was_read(head, [(keys[n], v) for n, v in pairs if buckets[n] == head.bucket])
        return [None if value is UNKNOWN else value for value in values]

    async def _read(
        self, connection: Session, buckets: Sequence[int], keys: Sequence[Key]
    ) -> tuple[Sequence[Head], Sequence[bytes | None]]:
        """The heads of the buckets and the values of the keys, at one moment."""
        scopes = [place_of(scope).scope for scope, _ in keys]
        names = [indexed(raw_name(key))[0] for _, key in keys]
        heads: list[Head] = []
        values: list[bytes | None] = [None] * len(keys)
        for n, *head, value in await connection.fetch(
            self._statements.read, buckets, scopes, names, self._clock.now_ms()
        ):
            if n is None:
                heads.append(Head(*head))
            else:
                values[n - 1] = value
        return heads, values
