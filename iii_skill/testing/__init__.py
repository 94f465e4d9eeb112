"""Shipped to others: the conformance kit for adapter authors."""

from iii_skill.testing.checks import Check
from iii_skill.testing.contract import AdapterContract
from iii_skill.testing.runner import Verdict, checks_for, run_check, run_checks, unusable
from iii_skill.testing.subject import ContractBroken, Subject

__all__ = [
    "AdapterContract",
    "Check",
    "ContractBroken",
    "Subject",
    "Verdict",
    "checks_for",
    "run_check",
    "run_checks",
    "unusable",
]
