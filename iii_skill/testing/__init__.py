"""Shipped to others: the conformance kit for adapter authors, and engines for tests of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Not late: its module has the same name.
from iii_skill.testing.unique import unique

if TYPE_CHECKING:
    from iii_skill.testing.checks import Check
    from iii_skill.testing.contract import AdapterContract
    from iii_skill.testing.proxy import Proxy
    from iii_skill.testing.runner import Verdict, checks_for, run_check, run_checks, unusable
    from iii_skill.testing.server import ServerProcess
    from iii_skill.testing.subject import ContractBroken, Subject

_HOMES = {
    "AdapterContract": "contract",
    "Check": "checks",
    "ContractBroken": "subject",
    "Proxy": "proxy",
    "ServerProcess": "server",
    "Subject": "subject",
    "Verdict": "runner",
    "checks_for": "runner",
    "run_check": "runner",
    "run_checks": "runner",
    "unusable": "runner",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first asked for: a pytest run that uses none pays for none."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'iii_skill.testing' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"iii_skill.testing.{home}"), name)


__all__ = [
    "AdapterContract",
    "Check",
    "ContractBroken",
    "Proxy",
    "ServerProcess",
    "Subject",
    "Verdict",
    "checks_for",
    "run_check",
    "run_checks",
    "unique",
    "unusable",
]
