"""Ports: whether the host can listen where it is told to, and who does already."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from iii_skill.config import adapter_settings
from iii_skill.doctor.listeners import bind_error, holder, is_taken
from iii_skill.doctor.outcome import Outcome, Outcomes, SetupCheck, fail, ok, page, skipped
from iii_skill.doctor.setup import Setup
from iii_skill.errors import IiiSkillError


def workers(setup: Setup) -> Outcome:
    """Whether the port for workers is free, or a host's."""
    worker = setup.config.worker
    if not setup.target_is_local:
        return skipped(f"the host in use is looked for at {setup.target.url}")
    if setup.answers:
        return ok(f"port {worker.port} is that of {_who(worker.port)}")
    return _free(worker.host, worker.port, "for workers", "--port")


def http(setup: Setup) -> Outcome:
    """Whether the port for HTTP is free, or the same host's."""
    section, worker = setup.config.http, setup.config.worker
    if section is None:
        return skipped("no HTTP port is configured")
    if section.port == worker.port and section.port != 0:
        return fail(f"Port {section.port} is given to workers and to HTTP.", "Give one of them another port.")
    if not setup.target_is_local:
        return skipped(f"the host in use is looked for at {setup.target.url}")
    if setup.answers:
        here, there = holder(section.port), holder(worker.port)
        known = here is not None and here.pid is not None and there is not None and there.pid is not None
        if here is None or not known or here == there:
            return ok(f"port {section.port} " + ("is not in use" if here is None else f"is that of {here}"))
        return fail(
            f"Port {section.port} for HTTP is held by {here}, and the host is {there}.",
            f"End {here}, or give the host another one: --http-port",
        )
    return _free(section.host, section.port, "for HTTP", "--http-port")


def companions(setup: Setup) -> Outcomes:
    """Whether the ports that other workers of the file were given are free."""
    if setup.answers:
        return skipped("a host runs already")
    found = [outcome for place, port, name in _beside(setup) for outcome in _busy(place, port, name)]
    return found or ok("free, or none is fixed")


def _beside(setup: Setup) -> Iterator[tuple[str, int, str]]:
    kinds = {
        name: kind for kind in setup.plugins.companions().values() for name in (kind.name, *kind.aliases)
    }
    for section in setup.config.companions or ():
        kind = kinds.get(section.name)
        if kind is None:
            continue
        try:
            settings = adapter_settings(kind.config_type, section.config, where=section.where)
        except IiiSkillError:
            continue
        port = getattr(settings, "port", None)
        if isinstance(port, int):
            yield getattr(settings, "host", None) or setup.config.worker.host, port, kind.name


def _busy(address: str, port: int, name: str) -> Iterator[Outcome]:
    error = bind_error(address, port)
    if error is not None and is_taken(error):
        yield fail(f"Port {port} of {name} is held by {_who(port)}.", f"End it, or change `port` of {name}.")


def _free(address: str, port: int, purpose: str, option: str) -> Outcome:
    error = None if port == 0 else bind_error(address, port)
    if error is None:
        return ok(f"port {port} is free")
    if is_taken(error):
        return fail(
            f"Port {port} {purpose} is held by {_who(port)}, which is no iii engine that answers.",
            f"End it, or give the host another port: {option}",
        )
    if error.errno == errno.EACCES:
        return fail(f"Port {port} {purpose} may not be opened by this user.", f"Use one above 1023: {option}")
    return skipped(f"{address} cannot be listened on")


def _who(port: int) -> str:
    found = holder(port)
    return "another process" if found is None else str(found)


_PAGE = page("ports")
_AFTER = ("python.packages", "config.file", "config.variable", "config.address")
CHECKS = (
    SetupCheck("ports.workers", "Port for workers", workers, _PAGE, after=_AFTER),
    SetupCheck("ports.http", "Port for HTTP", http, _PAGE, after=_AFTER),
    SetupCheck("ports.companions", "Ports of other workers", companions, _PAGE, after=_AFTER),
)
