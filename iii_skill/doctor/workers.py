"""Workers: versions of SDKs with known faults, names, and triggers that lead nowhere."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from iii_skill.doctor.outcome import Outcome, Outcomes, SetupCheck, fail, ok, page, skipped, warn
from iii_skill.doctor.setup import Setup

if TYPE_CHECKING:
    from iii_skill.doctor.probe import TriggerRow

_MOST = 20
"""Lines of one check."""
_LISTEN_S = 0.4
_RESTLESS = 40
"""So many changes of one key in that time are more than people and most programs make."""
_NUMBERS = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class SdkFault(msgspec.Struct, frozen=True):
    """A fault of an SDK up to and including a version."""

    runtime: str
    since: tuple[int, int, int]
    last: tuple[int, int, int]
    what: str
    fix: str


_UPDATE = "pip install --upgrade 'iii-sdk>=0.24.6'"
FAULTS = (
    SdkFault(
        "python", (0, 0, 0), (0, 24, 2), "does not connect again after a normal close (1000, 1001)", _UPDATE
    ),
    SdkFault(
        "python",
        (0, 0, 0),
        (0, 24, 4),
        "drops the connection on a message above 1 MiB, and the call waits for its time-out",
        _UPDATE,
    ),
)


async def versions(setup: Setup) -> Outcomes:
    """Whether a worker's SDK has a known fault."""
    if setup.reached is None:
        return skipped("nothing answers")
    rows = [row for row in await setup.reached.workers() if row.runtime != "engine"]
    found: list[Outcome] = []
    for row in rows:
        numbers = _NUMBERS.match(row.version or "")
        if numbers is None:
            continue
        version = tuple(int(part) for part in numbers.groups())
        faults = [
            fault for fault in FAULTS if fault.runtime == row.runtime and fault.since <= version <= fault.last
        ]
        if faults:
            what = ", and ".join(fault.what for fault in faults)
            name = row.name or row.id
            found.append(
                warn(f"Worker '{name}' runs {row.runtime} SDK {row.version}: it {what}.", faults[0].fix)
            )
    return found[:_MOST] or ok(f"{len(rows)} workers, none with an SDK of known faults")


async def names(setup: Setup) -> Outcomes:
    """Whether two workers share a name: the engine refuses the second one."""
    if setup.reached is None:
        return skipped("nothing answers")
    rows = [row for row in await setup.reached.workers() if row.runtime != "engine" and row.name]
    twice = [
        (name, namespace, count)
        for (name, namespace), count in Counter((row.name, row.namespace) for row in rows).items()
        if count > 1
    ]
    found = [
        warn(
            f"{count} workers are called '{name}' in namespace '{namespace}'; an engine refuses the second.",
            "Leave `worker_name` out, or give each its own.",
        )
        for name, namespace, count in twice[:_MOST]
    ]
    return found or ok(f"{len(rows)} names, each once")


async def missing_functions(setup: Setup) -> Outcomes:
    """Whether a trigger calls a function that nobody offers."""
    if setup.reached is None:
        return skipped("nothing answers")
    offered = {row.function_id for row in await setup.reached.functions()}
    triggers = await setup.reached.triggers()
    lost = [trigger for trigger in triggers if trigger.function_id not in offered]
    found = [
        fail(
            f"A trigger of type '{trigger.trigger_type}' calls '{trigger.function_id}', which nobody offers.",
            "Start the worker that offers it, or correct the name; a trigger that is no longer wanted ends "
            f"with engine::unregister_trigger (id {trigger.id}).",
        )
        for trigger in lost[:_MOST]
    ]
    return found or ok(f"{len(triggers)} triggers, each with its function")


async def loops(setup: Setup) -> Outcomes:
    """Whether a key that a trigger watches changes without end, as when its function writes it."""
    if setup.reached is None:
        return skipped("nothing answers")
    watching = [trigger for trigger in await setup.reached.triggers() if trigger.trigger_type == "state"]
    if not watching:
        return skipped("no trigger watches state")
    by_scope: dict[str | None, TriggerRow] = {}
    for trigger in watching:
        said = trigger.config.get("scope") if isinstance(trigger.config, dict) else None
        by_scope.setdefault(said if isinstance(said, str) and said else None, trigger)
    scopes = [None] if None in by_scope else list(by_scope)[:_MOST]
    counts = await setup.reached.changes(scopes, seconds=_LISTEN_S)
    found: list[Outcome] = []
    for (scope, key), count in counts.most_common(_MOST):
        if count < _RESTLESS:
            break
        trigger = by_scope.get(scope) or by_scope[None]
        found.append(
            warn(
                f"Key '{key[:80]}' of scope '{scope[:80]}' changes {count / _LISTEN_S:.0f} times a second, "
                f"and '{trigger.function_id}' watches it: a function that writes what it watches never ends.",
                "Let it write into another scope, or return when nothing that concerns it has changed.",
            )
        )
    return found or ok("no watched key changes without end")


_PAGE = page("workers-and-triggers")
_MET = ("engine.url", "engine.reachable", "engine.greeting", "engine.token")
CHECKS = (
    SetupCheck("triggers.functions", "Functions of triggers", missing_functions, _PAGE, after=_MET),
    SetupCheck("triggers.loops", "Loops", loops, _PAGE, after=_MET),
    SetupCheck("workers.names", "Names of workers", names, _PAGE, after=_MET),
    SetupCheck("workers.sdk", "SDK versions", versions, _PAGE, after=_MET),
)
