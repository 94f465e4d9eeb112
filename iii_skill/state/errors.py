"""What a caller hears when a state function cannot do it."""

from __future__ import annotations

import logging

import msgspec

from iii_skill.calls import Call
from iii_skill.errors import AdapterError, AdapterTimeout, CallerError, IiiSkillError

log = logging.getLogger("iii_skill.state")


class ReservedScope(CallerError):
    """The scope is bookkeeping of the state functions."""

    code = "RESERVED_SCOPE"

    def __init__(self, scope: str) -> None:
        super().__init__(f"RESERVED_SCOPE: `{scope}` is private worker bookkeeping")


class FunctionErrors(msgspec.Struct, frozen=True):
    """How one function words what the adapter could not do; `writes`: the outcome may be unknown."""

    code: str
    lead: str
    writes: bool = False

    def fail(self, call: Call, error: BaseException) -> None:
        """Answer a call with the refusal of an error."""
        call.fail(refusal(error, self))


def refusal(error: BaseException, function: FunctionErrors) -> IiiSkillError:
    """The error that the caller gets: its own mistakes as they are, all else under the function's code."""
    if isinstance(error, CallerError):
        return error
    if isinstance(error, IiiSkillError):
        message = error.message
        if isinstance(error, AdapterTimeout) and function.writes and not error.fate_told:
            message = f"{message.rstrip('.')}; it is unknown whether the write happened."
        return AdapterError(f"{function.lead}{message}", code=function.code)
    log.error("%s: unexpected %s", function.code, type(error).__name__, exc_info=error)
    text = str(error) or "no further reason"
    return AdapterError(f"{function.lead}{type(error).__name__}: {text}", code=function.code)
