"""Allowed: the scopes that an agent may see."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from iii_skill.cli.mcp.errors import ToolError


class Allowed:
    """A list of names and patterns (`*`, `?`, `[...]`); an empty one allows every scope."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)

    def __contains__(self, scope: str) -> bool:
        return not self._patterns or any(
            scope == pattern or fnmatchcase(scope, pattern) for pattern in self._patterns
        )

    def check(self, scope: str) -> None:
        """ToolError for a scope outside of the list."""
        if scope not in self:
            listed = ", ".join(self._patterns)
            raise ToolError(f"This server shows only the scopes {listed}: {_short(scope)} is none of them.")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "...")
