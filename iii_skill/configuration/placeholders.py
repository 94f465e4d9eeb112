"""`${VAR}` and `${VAR:default}` inside configuration values, filled in when they are read.

Values come from workers, and a worker may not read what the host was started with: only variables that the
operator named are filled in. The others count as not set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from iii_skill.errors import CallerError
from iii_skill.placeholders import MAX_FILLED, VARIABLE, fill_value

_OWN = "III_SKILL_"


class ExpandFailed(CallerError):
    """A variable is not set and has no default, or the value grows too large."""

    code = "EXPAND_FAILED"


class Exposed(Mapping[str, str]):
    """The part of an environment whose names match one of the patterns; never the host's own variables."""

    def __init__(self, environment: Mapping[str, str], patterns: tuple[str, ...]) -> None:
        self._environment = environment
        self._patterns = patterns

    def __getitem__(self, name: str) -> str:
        if not self._shown(name):
            raise KeyError(name)
        return self._environment[name]

    def __iter__(self) -> Iterator[str]:
        return filter(self._shown, self._environment)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _shown(self, name: str) -> bool:
        if name.startswith(_OWN):
            return False
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)


def expanded(value: Any, environment: Mapping[str, str]) -> Any:
    """The value with all placeholders filled in; a string that is one whole placeholder takes its type."""
    left = MAX_FILLED

    def filled(name: str, default: str | None, _place: int) -> str:
        nonlocal left
        found = environment.get(name, default)
        if found is None:
            raise ExpandFailed(
                f"environment variable '{name[:100]}' is not set and has no default (workers see only "
                "variables that the host exposes)"
            )
        left -= len(found)
        if left < 0:
            raise ExpandFailed("the value with its placeholders filled in is too large")
        return found

    return fill_value(value, VARIABLE, filled)
