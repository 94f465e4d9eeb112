"""Why an observer is refused; the codes are those of the protocol."""

from __future__ import annotations

from iii_skill.errors import CallerError


class ObserverRefused(CallerError):
    """The observer is not taken: `code` and one sentence."""

    code = "INVALID_ARGS"


def refused(code: str, message: str) -> ObserverRefused:
    """A refusal with that code."""
    return ObserverRefused(message, code=code)
