"""StoreFaults: a store whose disk is full, or that takes its time, for the calls that a fault strikes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from iii_skill.adapter import StateAdapter, settled
from iii_skill.errors import AdapterError, StorageFailed
from iii_skill.testing.engine.faults import DISK_FULL, SLOW_STORE, Fault

_OF_ONE_KEY = ("get", "set", "update", "delete")
_OF_A_SCOPE = ("list", "keys", "page")


class StoreFaults:
    """What strikes the store of one host. Only calls of `state::*` are struck; companions are spared."""

    def __init__(self) -> None:
        self.striking: Fault | None = None
        """The fault of the call that is being made now; the first method of the adapter takes it."""
        self._full: AdapterError | None = None
        self._held: Counter[tuple[str, str | None]] = Counter()
        self._until: dict[tuple[str, str | None], float] = {}

    def around(self, kind: type[StateAdapter]) -> type[StateAdapter]:
        """The same adapter, with these faults."""
        methods = {name: self._method(kind, name) for name in (*_OF_ONE_KEY, *_OF_A_SCOPE, "scopes")}
        return cast(type[StateAdapter], type(kind.__name__, (kind,), methods))

    def _method(self, kind: type[StateAdapter], name: str) -> Callable[..., Any]:
        def method(adapter: StateAdapter, *arguments: Any) -> Any:
            fault, self.striking = self.striking, None
            if self._full is not None:
                raise self._full
            if fault is not None and fault.kind == DISK_FULL:
                self._fill(adapter)
            answer = getattr(kind, name)(adapter, *arguments)
            if name == "scopes":
                return answer
            place = (arguments[0], arguments[1] if name in _OF_ONE_KEY else None)
            if fault is not None and fault.kind == SLOW_STORE:
                until = time.monotonic() + fault.seconds
                for one in (place, (place[0], None)):
                    self._until[one] = max(until, self._until.get(one, 0.0))
            if self._until.get(place, 0.0) > time.monotonic() or self._held[place]:
                return self._late(place, answer)
            return answer

        method.__name__ = name
        return method

    def _fill(self, adapter: StateAdapter) -> None:
        """Refuse the write as the adapters do. A store of this host alone stops for good then."""
        if adapter.shared:
            raise AdapterError("The disk of the store is full; nothing was changed: give it more space.")
        place = "memory" if adapter.data_dir is None else adapter.data_dir
        failure = StorageFailed(
            f"The store in {place} failed (database or disk is full) and is stopped: check the disk, then "
            "start again."
        )
        self._full = failure
        if adapter.on_failure is not None:
            adapter.on_failure(failure)
        raise failure

    async def _late(self, place: tuple[str, str | None], answer: Any) -> Any:
        """Give the answer no sooner than those of the same key that were asked for before."""
        self._held[place] += 1
        try:
            result = await settled(answer)
            while (left := self._until.get(place, 0.0) - time.monotonic()) > 0.0:  # noqa: ASYNC110 - by time
                await asyncio.sleep(left)
            return result
        finally:
            self._held[place] -= 1
            if not self._held[place]:
                del self._held[place]
                self._until.pop(place, None)
