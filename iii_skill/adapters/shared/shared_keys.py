"""SharedKeys: the queues of a SharedAdapter's keys, which travel in its batches themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from iii_skill.adapter import Deferred
from iii_skill.adapters.shared.key_queues import KeyQueue, KeyQueues
from iii_skill.adapters.shared.known_values import NULL, Key, KnownValues, broken_value, is_json
from iii_skill.adapters.shared.swap import Outcome, Overtaken, Swap
from iii_skill.adapters.shared.turn_batches import TurnBatches
from iii_skill.errors import AdapterError, AdapterUnavailable
from iii_skill.values import Change


class SharedKey(KeyQueue, eq=False, kw_only=True):
    """The queue of one key; it is itself what travels in the batches."""

    queues: SharedKeys
    base: bytes | None = None
    overwrite: bool = False

    def ask(self) -> None:
        self._add(self.queues.reads)

    def swap(self, base: bytes | None, values: Sequence[bytes | None]) -> None:
        self.base, self.overwrite = base, False
        # Only compared: to read is as good, and no write.
        self._add(self.queues.writes if values else self.queues.reads)

    def begin_overwrite(self, new: bytes | None) -> Deferred[Change]:
        """Set or delete as the first call for the key, whatever it holds."""
        answer: Deferred[Change] = Deferred()
        self.add(answer, lambda _old: new, blind=True)
        self.calls, self.waiting = self.waiting, []
        self.calls[0].new = new
        self.values, self.last, self.overwrite = (new,), new, True
        self._add(self.queues.writes)
        return answer

    def to_swap(self) -> Swap:
        assert self.values is not None
        calls = self.calls
        fresh = calls[0].blind if len(calls) == 1 else any(call.blind for call in calls)
        return Swap(self.key[0], self.key[1], self.base, self.values, self.overwrite, fresh)

    def became(self, outcome: Outcome) -> None:
        """The server has answered."""
        if isinstance(outcome, AdapterError):
            self.failed(outcome)
        elif isinstance(outcome, Overtaken):
            self.current(outcome.current)
        else:
            if self.overwrite and not self.ended:
                old = outcome.old
                sound = old is None or self.queues.known.get(self.key) == old or is_json(old)
                self.calls[0].old = old if sound else NULL
            self.swapped(outcome.revisions)

    def _add(self, batches: TurnBatches[Any]) -> None:
        self.deadline = self.queues.loop.time() + self.queues.timeout
        try:
            batches.add(self)
        except AdapterUnavailable as error:
            self.failed(error)


class SharedKeys(KeyQueues[SharedKey]):
    """The queues of a SharedAdapter."""

    def __init__(
        self,
        reads: TurnBatches[SharedKey | KeyRead],
        writes: TurnBatches[SharedKey],
        *,
        timeout: float,
        server: str,
    ) -> None:
        super().__init__(KnownValues(), timeout=timeout, server=server)
        self.reads = reads
        self.writes = writes

    def new(self, key: Key) -> SharedKey:
        queue = self.by_key[key] = SharedKey(queues=self, key=key)
        return queue


class KeyRead(msgspec.Struct, eq=False):
    """A get of a key that has no queue."""

    known: KnownValues
    key: Key
    answer: Deferred[bytes | None] = msgspec.field(default_factory=Deferred)

    def current(self, value: bytes | None) -> None:
        if self.answer.done():
            return
        if value is None or self.known.checked(self.key, value):
            self.answer.set_result(value)
        else:
            self.answer.set_exception(broken_value(self.key))

    def failed(self, error: AdapterError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
