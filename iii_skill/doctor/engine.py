"""Engine: what answers at the address, and who serves `state::*` there."""

from __future__ import annotations

import asyncio
import socket
import time

from iii_skill.calls import Failure
from iii_skill.doctor.listeners import holder
from iii_skill.doctor.outcome import Outcome, SetupCheck, fail, ok, page, skipped, split_remedy, warn
from iii_skill.doctor.setup import Setup
from iii_skill.doctor.target import remove_host_file
from iii_skill.errors import IiiSkillError
from iii_skill.state.functions import CHANGES

_START = "Start one: iii-skill serve (or the iii engine)"
SLOW_S = 1.0
_STATE_WORKERS = ("state", "iii-state", "iii-skill-state")
"""How workers that serve `state::*` call themselves."""


def url(setup: Setup) -> Outcome:
    """Whether the address is one of a worker port."""
    target = setup.target
    if target.fault is not None:
        return fail(
            f"{target.source} says '{target.url}', which is no address of a worker port: {target.fault}.",
            "Write it as ws://127.0.0.1:49134.",
        )
    return ok(f"{target.url} ({target.source})")


async def localhost(setup: Setup) -> Outcome:
    """Whether `localhost` leads programs to an address on which nobody listens."""
    target = setup.target
    if target.host.lower().rstrip(".") != "localhost" or target.port is None:
        return skipped("the address is not `localhost`")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo("localhost", target.port, type=socket.SOCK_STREAM)
    except OSError:
        return fail("`localhost` cannot be resolved on this machine.", f"Write {_by_number(target.url)}.")
    places = list(dict.fromkeys(str(place[4][0]) for place in found))
    open_at = [place for place in places if await _accepts(place, target.port)]
    if open_at == places or not open_at:
        return ok(f"`localhost` is {' and '.join(places)}")
    fix = f"Write {_by_number(target.url)} in {target.source}."
    deaf = " and ".join(place for place in places if place not in open_at)
    found_text = f"`localhost` is {' and '.join(places)} here, and nobody listens on {deaf}:{target.port}"
    if places[0] in open_at:
        return warn(f"{found_text}: some programs will not find the host.", fix)
    return fail(f"{found_text}, which programs try first.", fix)


def _by_number(address: str) -> str:
    return address.replace("localhost", "127.0.0.1", 1)


async def _accepts(place: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(place, port), 1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def reachable(setup: Setup) -> Outcome:
    """Whether a host or an engine answers."""
    from iii_skill.doctor.probe import ConnectOutcome

    target, probe = setup.target, setup.probe
    if probe is None:
        return skipped("not looked for")
    at = f"at {target.url} ({target.source})"
    if probe.answer in (ConnectOutcome.CLOSED, ConnectOutcome.NO_SUCH_HOST):
        what = "There is no such host" if probe.answer is ConnectOutcome.NO_SUCH_HOST else "Nothing answers"
        said = f"{what} {at}: {probe.detail}."
        if target.asked:
            return fail(said, _elsewhere(setup) or f"{_START}, or correct {target.source}.")
        return warn(said, _START)
    return ok(f"something listens {at}")


def _elsewhere(setup: Setup) -> str | None:
    """What to do when the configured port is open, and the address leads to another one."""
    try:
        worker = setup.config.worker
    except IiiSkillError:
        return None
    there = None if setup.target_is_local else holder(worker.port)
    if there is None:
        return None
    return f"Use ws://127.0.0.1:{worker.port}, if {there} is the host: it listens there."


def greeting(setup: Setup) -> Outcome:
    """Whether what answers is an engine that lets workers in."""
    from iii_skill.doctor.probe import ConnectOutcome

    target, probe = setup.target, setup.probe
    if probe is None or probe.answer in (ConnectOutcome.CLOSED, ConnectOutcome.NO_SUCH_HOST):
        return skipped("nothing answers")
    if probe.answer in (ConnectOutcome.FOREIGN, ConnectOutcome.SILENT):
        return fail(
            f"What answers at {target.url} does not greet as an iii engine does: {probe.detail.rstrip('.')}.",
            "Use the worker port of the host (49134 unless configured), not its HTTP port.",
        )
    return ok("it greets as an engine does")


def token(setup: Setup) -> Outcome:
    """Whether the engine takes the token."""
    from iii_skill.doctor.probe import ConnectOutcome

    probe = setup.probe
    if probe is None or probe.answer not in (ConnectOutcome.REFUSED, ConnectOutcome.REACHED):
        return skipped("nothing answers")
    if probe.answer is ConnectOutcome.REACHED:
        return ok("workers are let in")
    found, fix = split_remedy(probe.detail, f"Look at what listens at {setup.target.url}.")
    if "token" in probe.detail:
        fix = "Give workers the host's token in III_TOKEN (and this command: --token-file or III_TOKEN)."
    return fail(found, fix)


async def kind(setup: Setup) -> Outcome:
    """Which engine it is."""
    if setup.reached is None:
        return skipped("nothing answers")
    ids = {row.function_id for row in await setup.reached.functions()}
    name = "an iii-skill host with state" if CHANGES in ids else "an iii engine, or a host without state"
    return ok(f"{name}, {len(ids)} functions")


async def state_served(setup: Setup) -> Outcome:
    """Whether anybody serves `state::*`."""
    if setup.reached is None:
        return skipped("nothing answers")
    owners = [row for row in await setup.reached.functions() if row.function_id == "state::set"]
    if not owners:
        return fail(
            f"Nobody serves state::* at {setup.target.url}: calls end with function_not_found.",
            "Add the worker `iii-state` to its configuration, or run: iii-skill attach --engine "
            + setup.target.url,
        )
    return ok("by " + " and ".join(sorted({str(row.worker_name) for row in owners})))


async def second_owner(setup: Setup) -> Outcome:
    """Whether two workers serve `state::*`, each with a store of its own."""
    if setup.reached is None:
        return skipped("nothing answers")
    rows = await setup.reached.functions()
    workers = await setup.reached.workers()
    owners = {str(row.worker_name) for row in rows if row.function_id == "state::set"}
    connected = [str(row.name) for row in workers if row.runtime != "engine"]
    built_in = {row.name for row in workers if row.runtime == "engine"}
    beside = [name for name in connected if name in _STATE_WORKERS]
    if not owners <= built_in:
        # One of those who are connected is the owner itself.
        beside = [name for name in beside if name not in owners or beside.count(name) > 1]
    everybody = [*sorted(owners), *(f"{name} (connected beside)" for name in beside)]
    if len(everybody) > 1:
        return fail(
            f"There are several owners of state::*: {', '.join(everybody)}. Each keeps a store of its own, "
            "so reads and writes may go to different ones.",
            "Keep one: take `iii-state` out of the engine's config.yaml, or end the other worker.",
        )
    return ok("one owner" if owners else "none")


async def state_answers(setup: Setup) -> Outcome:
    """Whether the store behind `state::*` answers now."""
    if setup.reached is None:
        return skipped("nothing answers")
    begin = time.monotonic()
    answer = await setup.reached.ask("state::list_groups", {})
    took = time.monotonic() - begin
    if isinstance(answer, Failure):
        return fail(
            f"state::list_groups is refused: {answer.code}: {answer.message}",
            "The store behind the host fails: look at its log, and at the checks of the store here.",
        )
    if took > SLOW_S:
        return warn(
            f"state::list_groups took {took:.1f} s.", "Look at the load of the machine and of the store."
        )
    return ok(f"answered in {took * 1000:.0f} ms")


def left_behind(setup: Setup) -> Outcome:
    """Whether the file of a running host was left by one that is gone."""
    running = setup.running
    if running is None:
        return skipped("no host wrote one")
    if running.alive:
        return ok(f"{running.path}: process {running.pid}")
    return warn(
        f"{running.path} was left by a host that is gone: it was killed.",
        f"rm {running.path}",
        mend=lambda: remove_host_file(running.path),
    )


_PAGE = page("host-or-engine")
_MET = ("python.packages", "engine.url", "engine.reachable", "engine.greeting", "engine.token")
CHECKS = (
    SetupCheck("engine.url", "The address", url, _PAGE),
    SetupCheck("engine.localhost", "localhost", localhost, _PAGE, after=("engine.url",)),
    SetupCheck("engine.left", "Left behind", left_behind, _PAGE),
    SetupCheck(
        "engine.reachable",
        "Reachable",
        reachable,
        _PAGE,
        after=("python.packages", "engine.url", "engine.left", "engine.localhost"),
    ),
    SetupCheck(
        "engine.greeting",
        "An engine",
        greeting,
        _PAGE,
        after=("python.packages", "engine.url", "engine.left", "engine.reachable", "ports.workers"),
    ),
    SetupCheck("engine.token", "Lets workers in", token, _PAGE, after=_MET[:4]),
    SetupCheck("engine.kind", "Which one", kind, _PAGE, after=_MET),
    SetupCheck("state.served", "State is served", state_served, _PAGE, after=_MET),
    SetupCheck("state.owners", "One owner", second_owner, _PAGE, after=_MET),
    SetupCheck("state.answers", "State answers", state_answers, _PAGE, after=(*_MET, "state.served")),
)
