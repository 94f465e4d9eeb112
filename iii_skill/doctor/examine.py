"""Examine: make the checks in order, causes before what follows from them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Sequence

from iii_skill.doctor import directory, engine, installation, ports, settings, skill, store, workers
from iii_skill.doctor.outcome import Finding, Outcome, SetupCheck, Status, skipped, unknown
from iii_skill.doctor.setup import Setup
from iii_skill.errors import IiiSkillError

CHECK_S = 30.0
"""Seconds that one check may take."""


def _all() -> tuple[SetupCheck, ...]:
    """Every check, causes first: the order in which faults are shown."""
    by_id = {
        check.id: check
        for module in (installation, settings, engine, directory, store, ports, workers, skill)
        for check in module.CHECKS
    }
    first = (
        "python.packages",
        "config.file",
        "config.variable",
        "plugins.load",
        "plugins.adapter",
        "config.adapter",
        "config.companions",
        "config.exposure",
        "config.address",
        "config.token",
        *(name for name in by_id if name.startswith(("directory.", "store."))),
        "engine.url",
        "engine.left",
        "ports.workers",
        "ports.http",
    )
    return tuple(by_id[name] for name in dict.fromkeys((*first, *by_id)))


CHECKS = _all()

_REACHES = ("engine.", "ports.", "state.", "workers.", "triggers.", "directory.lock")
"""Checks that look at what answers at the target."""

RANK = {Status.FAIL: 0, Status.UNKNOWN: 1, Status.WARN: 2, Status.OK: 3, Status.SKIPPED: 4}


def chosen(only: Collection[str]) -> list[SetupCheck]:
    """The checks of these ids or groups (`store`), all without one; KeyError names what there is not."""
    for name in only:
        if not any(_is(check, name) for check in CHECKS):
            raise KeyError(name)
    return [check for check in CHECKS if not only or any(_is(check, name) for name in only)]


def _is(check: SetupCheck, name: str) -> bool:
    return check.id == name or check.id.partition(".")[0] == name


async def examine(
    setup: Setup, checks: Sequence[SetupCheck], *, mend: bool
) -> tuple[list[Finding], list[str]]:
    """What the checks found, what is wrong first; with `mend`, what could be put right is, and is told."""
    examination = _Examination(setup, checks, mend=mend)
    try:
        if mend:
            for check in checks_in_order(checks):
                await examination.make(check)
        else:
            # Side by side: a wait for one server is no wait for another. Those that wait for nobody come
            # first, so that they hold up nobody who does.
            await asyncio.gather(*map(examination.make, sorted(checks, key=_waits)))
    finally:
        if setup.probe is not None:
            setup.probe.leave()
    order = {check.id: place for place, check in enumerate(checks)}
    examination.findings.sort(key=lambda finding: (RANK[finding.status], order[finding.id]))
    return examination.findings, examination.done


def _waits(check: SetupCheck) -> bool:
    return inspect.iscoroutinefunction(check.look) or check.id.startswith(_REACHES)


def checks_in_order(checks: Sequence[SetupCheck]) -> list[SetupCheck]:
    """Each behind those that may name its cause."""
    waiting, found = list(checks), []
    while waiting:
        names = {check.id for check in waiting}
        check = next(one for one in waiting if not names.intersection(one.after))
        waiting.remove(check)
        found.append(check)
    return found


class _Examination:
    """Checks of one set-up; each waits for those that may name its cause."""

    def __init__(self, setup: Setup, checks: Sequence[SetupCheck], *, mend: bool) -> None:
        self.findings: list[Finding] = []
        self.done: list[str] = []
        self._setup = setup
        self._mend = mend
        self._made = {check.id: asyncio.Event() for check in checks}
        self._failed: set[str] = set()
        self._looking = asyncio.Lock()

    async def make(self, check: SetupCheck) -> None:
        try:
            for name in check.after:
                if name in self._made:
                    await self._made[name].wait()
            outcomes = await self._outcomes(check)
            if self._mend and any(outcome.mend for outcome in outcomes):
                self.done += [_mended(check, outcome) for outcome in outcomes if outcome.mend is not None]
                self._setup.forget()
                outcomes = await self._outcomes(check)
            if any(outcome.status is Status.FAIL for outcome in outcomes):
                self._failed.add(check.id)
            self.findings += [_finding(check, outcome) for outcome in outcomes]
        finally:
            self._made[check.id].set()

    async def _outcomes(self, check: SetupCheck) -> Sequence[Outcome]:
        causes = [name for name in check.after if name in self._failed]
        if causes:
            return [skipped(f"first mend {causes[0]}")]
        try:
            if check.id.startswith(
                ("engine.", "ports.", "state.", "workers.", "triggers.", "directory.lock")
            ):
                await self._reach()
            found = check.look(self._setup)
            if inspect.isawaitable(found):
                found = await asyncio.wait_for(found, CHECK_S)
        except TimeoutError:
            return [unknown(f"It took more than {CHECK_S:g} s.", "Try again when the machine is less busy.")]
        except IiiSkillError as error:
            # What several checks need and one of them reports: the configuration, the plugins.
            return [skipped(f"it cannot be looked at: {error.message}")]
        except Exception as error:
            return [
                unknown(
                    f"It cannot be looked at: {type(error).__name__}: {error}",
                    f"Try it alone: iii-skill doctor --only {check.id}",
                )
            ]
        return [found] if isinstance(found, Outcome) else found

    async def _reach(self) -> None:
        """Look once what answers at the target, when there is a target to look at."""
        setup = self._setup
        async with self._looking:
            if setup.probe is None and setup.target.fault is None and "python.packages" not in self._failed:
                from iii_skill.doctor.probe import probe

                setup.probe = await probe(
                    setup.target.url, token=setup.presented, seconds=setup.asked.seconds
                )


def _mended(check: SetupCheck, outcome: Outcome) -> str:
    assert outcome.mend is not None
    try:
        return f"{check.id}: {outcome.mend()}"
    except OSError as error:
        return f"{check.id}: could not: {error.strerror or error}"


def _finding(check: SetupCheck, outcome: Outcome) -> Finding:
    return Finding(
        id=check.id,
        status=outcome.status,
        title=check.title,
        found=outcome.found,
        fix=outcome.fix,
        docs=check.page,
    )
