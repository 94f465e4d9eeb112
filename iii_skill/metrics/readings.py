"""Readings: everything that a host can tell of itself, read when somebody asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from iii_skill.adapter import StateAdapter
from iii_skill.companion import Companion
from iii_skill.engine.engine import TIMED
from iii_skill.figures import Family, Histogram
from iii_skill.metrics.counting import BOUNDS_S, CountingEngine
from iii_skill.metrics.loop_lag import LoopLag
from iii_skill.metrics.process import process_families

logger = logging.getLogger(__name__)

HEALTH_S = 5.0
"""Seconds that the store gets to say how it is."""

LAG_S = 1.0
"""A loop that is so late answers nobody in time."""

QUEUE_S = 5.0
"""Seconds that a companion gets to count."""


class Readiness(msgspec.Struct, frozen=True):
    """Whether calls are answered now, and why not."""

    ready: bool
    reasons: list[str]
    adapter: str | None = None
    warnings: list[str] = []
    loop_lag_seconds: float = 0.0


class Readings:
    """What is read of one host."""

    def __init__(
        self,
        engine: CountingEngine,
        *,
        adapter: StateAdapter | None,
        companions: Mapping[str, Companion],
        stopping: Callable[[], str | None],
    ) -> None:
        """`stopping` says why the host is about to end."""
        self._engine = engine
        self._adapter = adapter
        self._companions = companions
        self._stopping = stopping
        self.lag = LoopLag()
        self.more: list[Callable[[], Iterable[Family]]] = []
        """What the ports and others add."""

    async def families(self) -> list[Family]:
        """All that can be told now."""
        families = [*self._of_calls(), *self._of_the_engine(), *process_families()]
        for source in self.more:
            families += source()
        for name, companion in list(self._companions.items()):
            try:
                families += await asyncio.wait_for(companion.families(), QUEUE_S)
            except Exception as error:
                logger.warning("%s does not tell its figures: %s: %s", name, type(error).__name__, error)
        return families

    async def readiness(self) -> Readiness:
        """Ask the store how it is, and look at the loop."""
        reasons: list[str] = []
        warnings: list[str] = []
        ending = self._stopping()
        if ending is not None:
            reasons.append(ending)
        name = None if self._adapter is None else self._adapter.name
        if self._adapter is not None and ending is None:
            try:
                health = await asyncio.wait_for(self._adapter.health(), HEALTH_S)
            except TimeoutError:
                reasons.append(f"The store did not say within {HEALTH_S:g} s how it is.")
            except Exception as error:
                reasons.append(f"The store cannot say how it is: {type(error).__name__}: {error}")
            else:
                warnings += health.warnings
                if not health.ok:
                    reasons.append(health.message or "The store cannot be used.")
        late = self.lag.latest
        if late > LAG_S:
            reasons.append(f"The event loop is {late:.1f} s late.")
        return Readiness(not reasons, reasons, name, warnings, late)

    def _of_calls(self) -> Iterable[Family]:
        engine = self._engine
        yield Family(
            "iii_invocations",
            "counter",
            "Calls by who served them.",
            [({"of": server}, count) for server, count in engine.calls().items()],
        )
        yield Family(
            "iii_invocation_errors",
            "counter",
            "Calls that failed, or whose caller went away, by kind.",
            [({"kind": kind}, count) for kind, count in engine.errors.items()],
        )
        yield Family(
            "iii_invocation_duration_seconds",
            "histogram",
            f"How long one in {TIMED} calls of each function took.",
            [
                ({"of": server}, Histogram(BOUNDS_S, list(found.buckets), found.sum))
                for server, found in engine.durations.items()
            ],
        )
        yield Family(
            "iii_state_operations",
            "counter",
            "Calls of state functions.",
            [({"function": function}, count) for function, count in engine.state_calls().items()],
        )
        yield Family(
            "iii_events",
            "counter",
            "Events for subscribers, handed to a lane or dropped.",
            [({"outcome": "fired"}, engine.fanout.fired), ({"outcome": "dropped"}, engine.fanout.dropped)],
        )

    def _of_the_engine(self) -> Iterable[Family]:
        engine = self._engine
        yield Family("iii_workers_active", "gauge", "Connected workers.", [({}, len(engine.workers))])
        inside = len(engine.functions.builtins)
        everywhere = sum(1 for _ in engine.functions)
        yield Family(
            "iii_functions",
            "gauge",
            "Functions by who serves them.",
            [({"of": "host"}, inside), ({"of": "workers"}, everywhere - inside)],
        )
        yield Family("iii_triggers", "gauge", "Triggers.", [({}, len(engine.triggers.triggers))])
        yield Family(
            "iii_invocations_in_flight",
            "gauge",
            "Calls that workers execute, and handlers of events that are out.",
            [({"of": "calls"}, engine.in_flight), ({"of": "events"}, engine.fanout.active)],
        )
        yield Family(
            "iii_events_waiting_bytes",
            "gauge",
            "Bytes of events that wait for their handlers.",
            [({}, engine.fanout.waiting_bytes)],
        )
        yield Family(
            "iii_loop_lag_seconds",
            "gauge",
            "How late the event loop was at most in the last ten seconds.",
            [({}, self.lag.largest)],
        )
