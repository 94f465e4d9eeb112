"""One invocation on its way: Call, what takes it, and what comes back: Result or Failure."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable
from typing import Any, TypeAlias, final

import msgspec

from iii_skill.errors import IiiSkillError, InvocationError
from iii_skill.outline import Short


@final
class Result(msgspec.Struct, frozen=True, gc=False):
    """Success. `value` is encoded JSON; None is an answer without a `result`, unlike b"null"."""

    value: bytes | None = None
    brief: bytes | None = None
    """What takes the place of a value that is too large for its caller: it says that a write was made."""


@final
class Failure(msgspec.Struct, frozen=True, gc=False):
    """An error with its code on the wire."""

    code: str
    message: str
    stacktrace: str | None = None


Outcome: TypeAlias = Result | Failure
Reply: TypeAlias = Callable[[Outcome], None]

NOTHING = Result()

CHAIN: contextvars.ContextVar[int] = contextvars.ContextVar("CHAIN", default=0)
"""While a write is told of: how many triggers in a row, all inside the host, led to it."""
TRACE: contextvars.ContextVar[str | None] = contextvars.ContextVar("TRACE", default=None)
"""While a write is told of, or a function of a plugin runs: the `traceparent` of the call, with which what
they call goes on. Log lines carry it; one written elsewhere is given it as `extra={"traceparent": ...}`."""
STOPPED = Failure("invocation_stopped", "Invocation stopped")
"""What a caller gets when whoever executes its call is gone."""


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_context(given: str | None) -> str | None:
    """The `traceparent` of a caller, dropped when it is none."""
    return given if given is None or _TRACEPARENT.fullmatch(given) else None


def result_of(outcome: Outcome) -> bytes | None:
    """The encoded result, None for none; InvocationError for a failure."""
    if isinstance(outcome, Failure):
        raise InvocationError(outcome.message, code=outcome.code, stacktrace=outcome.stacktrace)
    return outcome.value


def no_reply(_outcome: Outcome) -> None:
    """The reply of a void call."""


class Call(msgspec.Struct):
    """An invocation: whoever takes it calls `reply` exactly once, at once or later.

    `data` and `metadata` are encoded JSON. `namespace` None means `default`. `caller_id` is the id of the
    worker (or session) that called; events that the engine fires have none. `caller` is encoded: who called,
    out of which function. `depth` is how many observers led to the call, `activation` (encoded) which one it
    is made for. `matched` and `delivered` are what the worker that answers says about its observers.
    """

    function_id: str
    data: bytes
    reply: Reply = no_reply
    namespace: str | None = None
    caller_id: str | None = None
    metadata: bytes | None = None
    traceparent: str | None = None
    baggage: str | None = None
    invocation_id: str | None = None
    caller: bytes | None = None
    depth: int = 0
    activation: bytes | None = None
    matched: list[str] | None = None
    delivered: bool = False
    chain: int = 0
    """How many triggers in a row, all inside the host, led to this call."""
    levels: int = 0
    """Not 0: `data` was looked at where it came in, every SDK can read it, and it nests at most so deep."""
    outline: Short | None = None
    """Of a long call that brings a value: `data` is this short text, and the values come back through it."""

    def payload(self) -> bytes:
        """All of `data`, also of a long call."""
        return self.data if self.outline is None else self.outline.restore(self.data)

    def let_go(self) -> None:
        """The values of a long call were taken out of it: do not hold it any longer beside them."""
        if self.outline is not None:
            self.outline.outline.release()
            self.outline = None

    def succeed(self, value: bytes | None) -> None:
        """Answer with encoded JSON; None is an answer without a `result`."""
        reply = self.reply
        reply(NOTHING if value is None else Result(value))

    def fail(self, error: IiiSkillError) -> None:
        """Answer with the error's code and message."""
        stacktrace = error.stacktrace if isinstance(error, InvocationError) else None
        self.reply(Failure(error.code, error.message, stacktrace))


Handler: TypeAlias = Callable[[Call], None]
"""A function inside the host: it answers its call exactly once, at once or later."""


class FunctionInfo(msgspec.Struct, frozen=True):
    """What introspection says about a function."""

    id: str
    description: str
    request_schema: dict[str, Any]
    response_schema: dict[str, Any] | None = None
