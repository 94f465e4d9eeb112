"""Shipped to others: the conformance kit for adapter authors."""

from iii_skill.testing.checks import Check
from iii_skill.testing.contract import AdapterContract
from iii_skill.testing.proxy import Proxy
from iii_skill.testing.runner import Verdict, checks_for, run_check, run_checks, unusable
from iii_skill.testing.server import ServerProcess
from iii_skill.testing.subject import ContractBroken, Subject
from iii_skill.testing.unique import unique

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
