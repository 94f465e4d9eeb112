"""`iii-skill::state::expire`: when a key ends, told or set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from iii_skill.adapter import Expiry, StateAdapter
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, FunctionInfo
from iii_skill.errors import CallerError, CapabilityMissing
from iii_skill.serde.reader import Shape, optional_count, read_input, string
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.functions import EXPIRE
from iii_skill.state.scopes import check_scope
from iii_skill.values import KEEP, Keep

LATEST_MS = 2**53 - 1
"""The last moment that every SDK reads exactly."""

_ERRORS = FunctionErrors("EXPIRE_ERROR", "Failed to expire key: ", writes=True)

INFO = FunctionInfo(
    EXPIRE,
    "Have a key end after a time or at a moment, or for ever stay (null or 0); without either, only tell.",
    {
        "type": "object",
        "required": ["key", "scope"],
        "properties": {
            "scope": {"type": "string"},
            "key": {"type": "string"},
            "ttl_ms": {
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "So many milliseconds from now; null or 0: it no longer ends.",
            },
            "at_ms": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": LATEST_MS,
                "description": "Milliseconds since 1970; null or 0: it no longer ends.",
            },
        },
    },
    {
        "type": "object",
        "required": ["expires_at_ms", "found"],
        "properties": {
            "found": {"type": "boolean", "description": "Whether the key is there."},
            "expires_at_ms": {"type": ["integer", "null"], "description": "When it ends; null: never."},
        },
    },
)

_SHAPE = Shape(
    "StateExpireInput",
    {"scope": string, "key": string, "ttl_ms": optional_count, "at_ms": optional_count},
    {"ttl_ms": KEEP, "at_ms": KEEP},
    positional=False,
)

_encode = msgspec.json.Encoder().encode


class ExpireFunction:
    """Answers calls out of the adapter; `given` is told of every end that it gives."""

    def __init__(
        self,
        adapter: StateAdapter,
        *,
        answers: AdapterAnswers,
        now: Callable[[], float],
        given: Callable[[int], None],
    ) -> None:
        """`now` is the host's clock, in seconds."""
        self._adapter = adapter
        self._answers = answers
        self._now = now
        self._given = given

    def __call__(self, call: Call) -> None:
        try:
            asked = read_input(EXPIRE, _SHAPE, call.data)
            scope, key = asked["scope"], asked["key"]
            check_scope(scope)
            at_ms = self._moment(asked)
            if not self._adapter.expires:
                raise CapabilityMissing(
                    f"The adapter '{self._adapter.name}' keeps no ends of keys: use another adapter."
                )
            answer = self._adapter.expire(scope, key, at_ms)
        except Exception as error:
            call.fail(refusal(error, _ERRORS))
            return
        self._answers.settle(answer, (scope, key), call, self._was_given, _ERRORS.fail)

    def _was_given(self, call: Call, expiry: Expiry) -> None:
        call.succeed(b'{"found":%b,"expires_at_ms":%b}' % (_encode(expiry.found), _encode(expiry.at_ms)))
        if expiry.at_ms is not None:
            self._given(expiry.at_ms)

    def _moment(self, asked: dict[str, Any]) -> int | Literal[Keep.KEEP] | None:
        ttl_ms: int | Literal[Keep.KEEP] | None = asked["ttl_ms"]
        at_ms: int | Literal[Keep.KEEP] | None = asked["at_ms"]
        if ttl_ms is KEEP:
            moment = at_ms
        elif at_ms is KEEP:
            moment = ttl_ms and ttl_ms + int(self._now() * 1000)
        else:
            raise CallerError("give ttl_ms or at_ms, not both", code="INVALID_EXPIRY")
        if moment is KEEP or not moment:
            return moment or None
        if moment > LATEST_MS:
            raise CallerError(
                f"a key can end {LATEST_MS} ms after 1970 at the latest; null lets it stay for ever",
                code="INVALID_EXPIRY",
            )
        return moment
