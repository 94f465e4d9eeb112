"""`iii-skill::state::history`: what a key held before."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from iii_skill.adapter import VERSIONS_BYTES, StateAdapter, Version
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, FunctionInfo
from iii_skill.errors import CallerError, CapabilityMissing
from iii_skill.serde.reader import Shape, optional_count, optional_digits, read_input, string
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.functions import HISTORY
from iii_skill.state.scopes import check_scope

MAX_VERSIONS = 1000

_ERRORS = FunctionErrors("HISTORY_ERROR", "Failed to read history: ")
_encode = msgspec.json.Encoder().encode

INFO = FunctionInfo(
    HISTORY,
    "The versions of a key, the newest first; the store must keep them (setting `history`).",
    {
        "type": "object",
        "required": ["key", "scope"],
        "properties": {
            "scope": {"type": "string"},
            "key": {"type": "string"},
            "before": {
                "type": ["string", "integer", "null"],
                "pattern": "^[0-9]{1,20}$",
                "minimum": 0,
                "description": "`next` of the last page.",
            },
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_VERSIONS},
        },
    },
    {
        "type": "object",
        "required": ["next", "versions"],
        "properties": {
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["at_ms", "deleted", "revision", "value"],
                    "properties": {
                        "revision": {
                            "type": "string",
                            "pattern": "^[0-9]+$",
                            "description": "A number as text: JavaScript rounds large ones.",
                        },
                        "at_ms": {"type": "integer", "description": "Milliseconds since 1970."},
                        "deleted": {"type": "boolean"},
                        "value": {},
                    },
                },
            },
            "next": {"type": ["string", "null"], "description": "`before` of the next page; null: no more."},
        },
    },
)

_SHAPE = Shape(
    "StateHistoryInput",
    {"scope": string, "key": string, "before": optional_digits, "limit": optional_count},
    {"before": None, "limit": None},
    positional=False,
)


class HistoryFunction:
    """Answers calls out of the adapter."""

    def __init__(self, adapter: StateAdapter, *, answers: AdapterAnswers) -> None:
        self._adapter = adapter
        self._answers = answers

    def __call__(self, call: Call) -> None:
        try:
            asked = read_input(HISTORY, _SHAPE, call.data)
            scope, key = asked["scope"], asked["key"]
            check_scope(scope)
            limit = 100 if asked["limit"] is None else asked["limit"]
            if not 1 <= limit <= MAX_VERSIONS:
                raise CallerError(f"limit must be from 1 to {MAX_VERSIONS}", code="INVALID_PAGE_LIMITS")
            if not self._adapter.historical:
                raise CapabilityMissing(
                    f"The adapter '{self._adapter.name}' keeps no versions of keys: use another one."
                )
            # One more than are shown tells whether more follow.
            answer = self._adapter.history(scope, key, asked["before"], limit + 1)
        except Exception as error:
            call.fail(refusal(error, _ERRORS))
            return

        def was_read(call: Call, versions: Sequence[Version]) -> None:
            shown = _shown(versions, limit)
            if len(shown) < len(versions):
                call.succeed(_told(shown, more=True))
            elif sum(len(version.value or b"") for version in shown) < VERSIONS_BYTES:
                call.succeed(_told(shown, more=False))
            else:
                # As much as an adapter gives at once: only a further question tells.
                rest = self._adapter.history(scope, key, shown[-1].revision, 1)
                self._answers.settle(rest, None, (call, shown), _rest_was_read, _rest_failed)

        self._answers.settle(answer, None, call, was_read, _ERRORS.fail)


def _rest_was_read(subject: tuple[Call, Sequence[Version]], rest: Sequence[Version]) -> None:
    call, shown = subject
    call.succeed(_told(shown, more=bool(rest)))


def _rest_failed(subject: tuple[Call, Sequence[Version]], error: BaseException) -> None:
    _ERRORS.fail(subject[0], error)


def _shown(versions: Sequence[Version], limit: int) -> Sequence[Version]:
    """The first ones, no more than an answer takes, one at least."""
    room = VERSIONS_BYTES
    for number, version in enumerate(versions[:limit]):
        room -= len(version.value or b"")
        if number and room < 0:
            return versions[:number]
    return versions[:limit]


def _told(versions: Sequence[Version], *, more: bool) -> bytes:
    rows = [
        b'{"revision":"%d","at_ms":%d,"deleted":%b,"value":%b}'
        % (version.revision, version.at_ms, _encode(version.value is None), version.value or b"null")
        for version in versions
    ]
    following = b'"%d"' % versions[-1].revision if more else b"null"
    return b'{"versions":[%b],"next":%b}' % (b",".join(rows), following)
