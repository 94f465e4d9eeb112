"""`iii-skill::state::past`: what all keys held at a moment, page by page."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from iii_skill.adapter import PastPage, StateAdapter
from iii_skill.adapter_answers import AdapterAnswers
from iii_skill.calls import Call, FunctionInfo
from iii_skill.errors import CallerError, CapabilityMissing
from iii_skill.serde.reader import Shape, optional_count, optional_digits, optional_string, read_input
from iii_skill.state.errors import FunctionErrors, refusal
from iii_skill.state.functions import PAST

MAX_KEYS = 1000

_ERRORS = FunctionErrors("HISTORY_ERROR", "Failed to read history: ")
_encode = msgspec.json.Encoder().encode

_KEY = {"scope": {"type": "string"}, "key": {"type": "string"}}
INFO = FunctionInfo(
    PAST,
    "What all keys held at a past moment. First `at_ms` alone gives the `revision` of that moment, then "
    "`revision` pages of keys; the store must keep versions (setting `history`).",
    {
        "type": "object",
        "properties": {
            "at_ms": {"type": ["integer", "null"], "description": "Milliseconds since 1970, not of now."},
            "revision": {
                "type": ["string", "integer", "null"],
                "pattern": "^[0-9]{1,20}$",
                "minimum": 0,
                "description": "As text: JavaScript rounds large ones.",
            },
            "after": {"type": ["string", "null"], "description": "`next` of the last page."},
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_KEYS},
        },
    },
    {
        "type": "object",
        "required": ["revision"],
        "properties": {
            "revision": {"type": "string", "pattern": "^[0-9]+$"},
            "entries": {
                "type": "array",
                "items": {"type": "object", "required": ["key", "scope", "value"], "properties": _KEY},
            },
            "unknown": {
                "type": "array",
                "description": "Keys of which it is not kept what they held; from `known_from_ms` on it is.",
                "items": {"type": "object", "required": ["key", "known_from_ms", "scope"]},
            },
            "whole": {"type": "boolean", "description": "False: there may have been other keys, too."},
            "whole_from_ms": {"type": "integer", "description": "From when on there are none."},
            "next": {"type": ["string", "null"], "description": "`after` of the next page; null: no more."},
        },
    },
)

_SHAPE = Shape(
    "StatePastInput",
    {"at_ms": optional_count, "revision": optional_digits, "after": optional_string, "limit": optional_count},
    dict.fromkeys(("at_ms", "revision", "after", "limit")),
    positional=False,
)


class PastFunction:
    """Answers calls out of the adapter."""

    def __init__(self, adapter: StateAdapter, *, answers: AdapterAnswers, now: Callable[[], float]) -> None:
        self._adapter = adapter
        self._answers = answers
        self._now = now

    def __call__(self, call: Call) -> None:
        try:
            asked = read_input(PAST, _SHAPE, call.data)
            at_ms, revision = asked["at_ms"], asked["revision"]
            limit = 100 if asked["limit"] is None else asked["limit"]
            if not 1 <= limit <= MAX_KEYS:
                raise CallerError(f"limit must be from 1 to {MAX_KEYS}", code="INVALID_PAGE_LIMITS")
            if (at_ms is None) is (revision is None):
                raise CallerError("give one of at_ms and revision", code="INVALID_MOMENT")
            if at_ms is not None and at_ms >= int(self._now() * 1000):
                raise CallerError("that moment is not past yet", code="INVALID_MOMENT")
            if not self._adapter.historical:
                raise CapabilityMissing(
                    f"The adapter '{self._adapter.name}' keeps no versions of keys: use another one."
                )
            if at_ms is not None:
                found = self._adapter.moment_at(at_ms)
                self._answers.settle(found, None, call, _was_found, _ERRORS.fail)
                return
            page = self._adapter.past(revision, asked["after"], limit)
        except Exception as error:
            call.fail(refusal(error, _ERRORS))
            return

        def was_read(call: Call, page: PastPage) -> None:
            call.succeed(_told(revision, page))

        self._answers.settle(page, None, call, was_read, _ERRORS.fail)


def _was_found(call: Call, revision: int) -> None:
    call.succeed(b'{"revision":"%d"}' % revision)


def _told(revision: int, page: PastPage) -> bytes:
    entries: list[bytes] = []
    unknown: list[bytes] = []
    for one in page.keys:
        name = b'"scope":%b,"key":%b' % (_encode(one.scope), _encode(one.key))
        if one.known_from_ms is not None:
            unknown.append(b'{%b,"known_from_ms":%d}' % (name, one.known_from_ms))
        elif one.value is not None:
            entries.append(b'{%b,"value":%b}' % (name, one.value))
    return b'{"revision":"%d","entries":[%b],"unknown":[%b],"whole":%b,"whole_from_ms":%d,"next":%b}' % (
        revision,
        b",".join(entries),
        b",".join(unknown),
        _encode(revision >= page.whole_from),
        page.whole_from_ms,
        _encode(page.after),
    )
