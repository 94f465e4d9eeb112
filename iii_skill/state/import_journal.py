"""ImportJournal: many writes that are made as one, also over SIGKILL, in any store that is not shared.

The parts of an import are kept in a private scope of the store. One key there says that they are to be
written: until it is there nothing of the import counts, and from then on all of it does. Whoever opens the
store finishes what has that key before anything else is answered, and removes parts that have none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from iii_skill.adapter import settled
from iii_skill.values import KEEP, PRIVATE_SCOPES, Change, ChangeFunction

if TYPE_CHECKING:
    from iii_skill.adapter import StateAdapter

SCOPE = f"{PRIVATE_SCOPES}state-import"
COMMITTED = "committed"
AT_ONCE = 500
"""Writes that are begun in one turn."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """Some writes of an import, in order: values that are stored, then keys that are deleted."""

    rows: list[tuple[str, str, msgspec.Raw]] = []
    deletes: list[tuple[str, str]] = []


class Committed(msgspec.Struct, frozen=True):
    """An import that counts: its name, how many parts it has, and whether keys that are there stay."""

    id: str
    parts: int
    if_absent: bool


_encode = msgspec.json.encode
_decode_part = msgspec.json.Decoder(Part).decode
_decode_committed = msgspec.json.Decoder(Committed).decode


class ImportJournal:
    """The journal of one store; one import is written at a time."""

    def __init__(self, adapter: StateAdapter, written: Callable[[Change], None]) -> None:
        """`written` is told of every change, in order."""
        self._adapter = adapter
        self._written = written
        self.applied = 0
        """Writes of the current import that are made."""

    async def keep(self, name: str, number: int, part: bytes) -> None:
        """Store the encoded Part `number` of an import."""
        await settled(self._adapter.set(SCOPE, _key(name, number), part))

    async def commit(self, name: str, parts: int, *, if_absent: bool) -> None:
        """From now on the import counts."""
        await settled(self._adapter.set(SCOPE, COMMITTED, _encode(Committed(name, parts, if_absent))))

    async def committed(self) -> bool:
        """True when an import counts that is not written to its end."""
        return await settled(self._adapter.get(SCOPE, COMMITTED)) is not None

    async def finish(self) -> int:
        """Write the import that counts; how many of its writes changed something."""
        raw = await settled(self._adapter.get(SCOPE, COMMITTED))
        if raw is None:
            return 0
        found = _decode_committed(raw)
        changed = self.applied = 0
        for number in range(found.parts):
            key = _key(found.id, number)
            part = await settled(self._adapter.get(SCOPE, key))
            if part is None:
                continue  # It was written before the host ended.
            changed += await self._apply(_decode_part(part), if_absent=found.if_absent)
            # Only now: what is gone is not written again.
            await settled(self._adapter.delete(SCOPE, key))
        await settled(self._adapter.delete(SCOPE, COMMITTED))
        return changed

    async def forget(self, name: str | None = None) -> None:
        """Remove the parts of an import that does not count; of all of them without a name."""
        for key in await settled(self._adapter.keys(SCOPE)):
            if key != COMMITTED and (name is None or key.startswith(f"{name}/")):
                await settled(self._adapter.delete(SCOPE, key))

    async def _apply(self, part: Part, *, if_absent: bool) -> int:
        changed = 0
        begin = self._begun(part, if_absent=if_absent)
        while some := list(islice(begin, AT_ONCE)):
            for answer in some:
                change = answer if isinstance(answer, Change) else await answer
                changed += not change.kept
                self._written(change)
            self.applied += len(some)
            await asyncio.sleep(0)
        return changed

    def _begun(self, part: Part, *, if_absent: bool) -> Iterator[Any]:
        adapter = self._adapter
        for scope, key, raw in part.rows:
            value = bytes(raw)
            answer = (
                adapter.update(scope, key, _if_absent(value)) if if_absent else adapter.set(scope, key, value)
            )
            # Side by side, not one after another.
            yield asyncio.ensure_future(answer) if asyncio.iscoroutine(answer) else answer
        for scope, key in part.deletes:
            answer = adapter.delete(scope, key)
            yield asyncio.ensure_future(answer) if asyncio.iscoroutine(answer) else answer


def _if_absent(value: bytes) -> ChangeFunction:
    return lambda old: value if old is None else KEEP


def _key(name: str, number: int) -> str:
    return f"{name}/{number:08d}"
