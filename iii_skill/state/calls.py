"""What a function inside the host gets: one call, answered exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from iii_skill.errors import IiiSkillError


class StateCall(Protocol):
    """What a handler needs of an invocation; it answers exactly once, at once or later."""

    @property
    def data(self) -> bytes:
        """The encoded payload."""

    @property
    def caller_id(self) -> str | None:
        """Who called; None is the host itself."""

    def succeed(self, value: bytes | None) -> None:
        """Answer with encoded JSON, or without a result."""

    def fail(self, error: IiiSkillError) -> None:
        """Answer with an error."""


Handler = Callable[[StateCall], None]
