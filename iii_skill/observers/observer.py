"""Observer: one of them, with all that is known about it now."""

from __future__ import annotations

import asyncio
from enum import StrEnum

import msgspec

from iii_skill.engine.functions import Function
from iii_skill.engine.workers import Worker
from iii_skill.observers.definition import Definition
from iii_skill.protocol.outgoing import LegacyTrigger, ObserverView


class ObserverState(StrEnum):
    """Of an observer; only `disposed` is final."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERROR = "error"
    DISPOSED = "disposed"


class Reason(msgspec.Struct, frozen=True):
    """Why it is in its state."""

    code: str
    message: str


class Observer:
    """A subscriber of its source: `function_id` and `namespace` are those of its target."""

    def __init__(self, observer_id: str, definition: Definition, owner: Worker | None, now_ms: int) -> None:
        """`owner` None: the host itself."""
        self.id = observer_id
        self.legacy: LegacyTrigger | None = None
        """The trigger of an old SDK that it was made of."""
        self.id_json = msgspec.json.encode(observer_id)
        self.definition = definition
        self.function_id = definition.target.function_id
        self.namespace: str | None = definition.target.namespace
        self.metadata = definition.metadata
        self.max_in_flight: int | None = definition.max_in_flight
        self.owner = owner
        self.owner_id = None if owner is None else owner.id
        self.owner_name = None if owner is None else owner.name
        self.by_host = owner is None
        self.expires_at_ms = None if definition.expires_in_ms is None else now_ms + definition.expires_in_ms
        self.expiry: asyncio.TimerHandle | None = None
        self.state = ObserverState.PENDING
        self.reason: Reason | None = None
        self.was_active = False
        self.fires = 0
        self.dropped: dict[str, int] = {}
        self.source: Function | None = None
        """The function that it was found to fit; None until then."""
        self.refusal: Reason | None = None
        self.refused_by_worker = False
        """True: the worker of its source refused it, and is asked again when it registers that again."""
        self.told_host = False
        """True while the worker of the source knows it."""
        self.revision = 0
        """Under which the worker of the source was told of it; its ack repeats it."""
        self.acked = False

    @property
    def connected(self) -> bool:
        """True while its owner is there."""
        return self.by_host or self.owner is not None

    def drop(self, code: str) -> None:
        """Count a call that was not made."""
        self.dropped[code] = self.dropped.get(code, 0) + 1

    def view(self) -> ObserverView:
        """What the worker of its source is told."""
        made = self.definition
        return ObserverView(
            self.id,
            made.args,
            made.filter.normal,
            made.target.function_id,
            made.capture,
            made.on,
            self.legacy,
        )


class Accepted(msgspec.Struct, frozen=True):
    """An `observe` was taken: the state at once, and what could not be verified."""

    observer: Observer
    warnings: list[str]
