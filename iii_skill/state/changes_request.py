"""ChangesRequest: what is asked of `iii-skill::state::changes`, and how changes are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from iii_skill.calls import FunctionInfo
from iii_skill.errors import CallerError
from iii_skill.serde.reader import Shape, optional_count, optional_flag, optional_string, read_input
from iii_skill.state.events import event_type
from iii_skill.state.functions import CHANGES
from iii_skill.values import Change

MAX_CHANGES = 10_000
MAX_WAIT_MS = 60_000
MAX_BYTES = 8 * 1024 * 1024

INFO = FunctionInfo(
    CHANGES,
    "What changed after a cursor, in one order for all keys; the first call gives a cursor to begin with.",
    {
        "type": "object",
        "properties": {
            "after": {"type": ["string", "null"], "description": "A cursor, or `oldest`; null: from now on."},
            "scope": {"type": ["string", "null"], "description": "Only this scope."},
            "key": {"type": ["string", "null"], "description": "Only this key."},
            "key_prefix": {"type": ["string", "null"], "description": "Only keys that begin with it."},
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CHANGES},
            "max_bytes": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_BYTES},
            "wait_ms": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_WAIT_MS},
            "values": {"type": ["boolean", "null"], "description": "False: without old and new values."},
            "newest": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_CHANGES,
                "description": "Pass over all but so many; `left_out` counts them. Not with a filter.",
            },
        },
    },
    {
        "type": "object",
        "required": ["changes", "next", "oldest"],
        "properties": {
            "changes": {"type": "array", "items": {"type": "object"}},
            "next": {"type": "string", "description": "The cursor for the next call."},
            "oldest": {"type": "string", "description": "The earliest cursor that can be gone on from."},
            "left_out": {"type": "integer", "description": "How many `newest` passed over, when it did."},
        },
    },
)

_SHAPE = Shape(
    "StateChangesInput",
    {
        "after": optional_string,
        "scope": optional_string,
        "key": optional_string,
        "key_prefix": optional_string,
        "limit": optional_count,
        "max_bytes": optional_count,
        "wait_ms": optional_count,
        "values": optional_flag,
        "newest": optional_count,
    },
    dict.fromkeys(
        ("after", "scope", "key", "key_prefix", "limit", "max_bytes", "wait_ms", "values", "newest")
    ),
    positional=False,
)

_encode = msgspec.json.Encoder().encode


class ChangesRequest(msgspec.Struct, frozen=True):
    """What is asked for."""

    after: str | None
    """A cursor, OLDEST, or None for now."""
    scope: str | None
    key: str | None
    key_prefix: str
    limit: int
    max_bytes: int
    values: bool
    wait_ms: int
    newest: int | None
    """All but so many are passed over, and counted; None: none are."""

    @classmethod
    def of(cls, payload: Any) -> ChangesRequest:
        """Read a payload; CallerError where it is none."""
        given = read_input(CHANGES, _SHAPE, payload)
        newest = None if given["newest"] is None else _bounded(given, "newest", 1, 1, MAX_CHANGES)
        if newest is not None and (
            given["key_prefix"] or given["scope"] is not None or given["key"] is not None
        ):
            raise CallerError("newest goes without scope, key and key_prefix", code="INVALID_PAGE_LIMITS")
        return cls(
            given["after"],
            given["scope"],
            given["key"],
            given["key_prefix"] or "",
            _bounded(given, "limit", 1_000, 1, MAX_CHANGES),
            _bounded(given, "max_bytes", 1024 * 1024, 1, MAX_BYTES),
            given["values"] is not False,
            _bounded(given, "wait_ms", 0, 0, MAX_WAIT_MS),
            newest,
        )

    def wants(self, change: Change) -> bool:
        """True when the answer is to tell of it."""
        return (
            self.scope in (None, change.scope)
            and self.key in (None, change.key)
            and change.key.startswith(self.key_prefix)
        )

    def row(self, change: Change, *, cursor: str, at_ms: int) -> bytes:
        """What the answer says of a change."""
        shown = b""
        if self.values:
            shown = b',"old_value":%b,"new_value":%b' % (change.old or b"null", change.new or b"null")
        return b'{"cursor":%b,"event_type":%b,"scope":%b,"key":%b,"revision":"%d","at_ms":%d%b}' % (
            _encode(cursor),
            _encode(event_type(change)),
            _encode(change.scope),
            _encode(change.key),
            change.revision,
            at_ms,
            shown,
        )


def answer(rows: Sequence[bytes], *, after: str, oldest: str, left_out: int = 0) -> bytes:
    """The whole answer."""
    left = b',"left_out":%d' % left_out if left_out else b""
    return b'{"changes":[%b],"next":%b,"oldest":%b%b}' % (
        b",".join(rows),
        _encode(after),
        _encode(oldest),
        left,
    )


def _bounded(given: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = given[name]
    if value is None:
        return default
    if not low <= value <= high:
        raise CallerError(f"{name} must be from {low} to {high}, not {value}", code="INVALID_PAGE_LIMITS")
    return int(value)
