"""Check: one named promise of the adapter contract, and the groups that the kit collects them in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from iii_skill.adapter import StateAdapter
from iii_skill.testing.subject import Subject
from iii_skill.values import Durability

T = TypeVar("T")

Applies: TypeAlias = Callable[[type[StateAdapter]], bool]
"""Whether a check applies to what an adapter class declares."""

Body: TypeAlias = Callable[[Subject], Awaitable[None]]
"""What a check does with a fresh subject; it raises ContractBroken when the promise is not kept."""


@dataclass(frozen=True)
class Check:
    """One promise: its name, the sentence that says it, and how it is tried."""

    name: str
    group: str
    sentence: str
    body: Body
    applies: Applies
    seconds: float
    promise: str = ""
    """The name that all cases of a table have in common; of any other check of a group, its name."""


def always(_adapter: type[StateAdapter]) -> bool:
    """Every adapter."""
    return True


def keeps_data(adapter: type[StateAdapter]) -> bool:
    """Adapters whose acknowledged writes outlive the host."""
    return adapter.durability is not Durability.NONE


def keeps_data_here(adapter: type[StateAdapter]) -> bool:
    """Adapters whose data lies on this machine, under one host only."""
    return adapter.durability in (Durability.PROCESS, Durability.DISK) and not adapter.shared


def is_shared(adapter: type[StateAdapter]) -> bool:
    """Adapters that other hosts write to as well."""
    return adapter.shared


def is_not_shared(adapter: type[StateAdapter]) -> bool:
    """Adapters that only this host writes to."""
    return not adapter.shared


def expires(adapter: type[StateAdapter]) -> bool:
    """Adapters whose keys can have an end."""
    return adapter.expires


class Group:
    """The checks of one module, in the order they are written."""

    def __init__(self, name: str, *, applies: Applies = always, seconds: float = 30.0) -> None:
        self.name = name
        self.checks: list[Check] = []
        self._applies = applies
        self._seconds = seconds

    def check(self, *, applies: Applies | None = None) -> Callable[[Body], Body]:
        """Add the decorated check: its name is the function's, its sentence the docstring."""

        def add(body: Body) -> Body:
            self._add(_name(body), _name(body), _sentence(body), body, applies)
            return body

        return add

    def table(
        self, cases: Mapping[str, T], *, applies: Applies | None = None
    ) -> Callable[[Callable[[Subject, T], Awaitable[None]]], Callable[[Subject, T], Awaitable[None]]]:
        """Add one check for each case of the table, named `check-case`."""

        def add(body: Callable[[Subject, T], Awaitable[None]]) -> Callable[[Subject, T], Awaitable[None]]:
            for label, case in cases.items():

                def bound(subject: Subject, case: T = case) -> Awaitable[None]:
                    return body(subject, case)

                self._add(
                    f"{_name(body)}-{label}",
                    _name(body),
                    f"{_sentence(body)[:-1]} ({label}).",
                    bound,
                    applies,
                )
            return body

        return add

    def _add(self, name: str, promise: str, sentence: str, body: Body, applies: Applies | None) -> None:
        self.checks.append(
            Check(name, self.name, sentence, body, applies or self._applies, self._seconds, promise)
        )


def _name(function: Callable[..., object]) -> str:
    return function.__name__.replace("_", "-")


def _sentence(function: Callable[..., object]) -> str:
    assert function.__doc__ is not None
    return " ".join(function.__doc__.split())
