"""State: what a test puts into an engine's state, and what it finds there."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from iii_skill.engine.python_functions import decoded, encoded
from iii_skill.state.equality import equal
from iii_skill.testing.engine.exact_state import ExactState

T = TypeVar("T")

Contents: TypeAlias = "Mapping[str, Mapping[str, Any]]"
"""Values by scope and key."""


class Run(Protocol):
    """Runs a coroutine on the engine's loop and waits for it."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class State:
    """Writes are those of any caller: they fire events and triggers. Faults spare them."""

    def __init__(self, exact: ExactState, run: Run) -> None:
        self._exact = exact
        self._run = run

    def get(self, scope: str, key: str) -> Any:
        """The value; None also when there is none."""
        value = self._run(self._exact.get(scope, key))
        return None if value is None else decoded(value)

    def set(self, scope: str, key: str, value: Any) -> None:
        """Store a value."""
        self._run(self._exact.set(scope, key, encoded(value)))

    def delete(self, scope: str, key: str) -> None:
        """Remove a key, if it is there."""
        self._run(self._exact.delete(scope, key))

    def list(self, scope: str) -> dict[str, Any]:
        """The values of a scope by key, in order of first insertion."""
        return {key: decoded(value) for key, value in self._run(self._exact.list(scope)).items()}

    def scopes(self) -> tuple[str, ...]:
        """The scopes that hold a key."""
        return self._run(self._exact.scopes())

    def load(self, contents: Contents) -> None:
        """Store many values; others stay."""
        self._run(self._exact.load(_encoded(contents)))

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """All that is there."""
        found = self._run(self._exact.snapshot())
        return {
            scope: {key: decoded(value) for key, value in values.items()} for scope, values in found.items()
        }

    def restore(self, contents: Contents) -> None:
        """Make it all as in `contents`; only what differs is written."""
        self._run(self._exact.restore(_encoded(contents), same=equal))


def _encoded(contents: Contents) -> dict[str, dict[str, bytes]]:
    return {
        scope: {key: encoded(value) for key, value in values.items()} for scope, values in contents.items()
    }
