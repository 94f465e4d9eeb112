"""The functions of the state worker: ids, descriptions, and request and response schemas."""

from __future__ import annotations

from typing import Any

from iii_skill.calls import FunctionInfo
from iii_skill.served import STATE

WORKER_NAME = STATE

EXTRA = frozenset(("state::compare-and-set", "state::list_keys", "state::list_entries"))
"""What an engine's own state worker does not have."""

CHANGES = "iii-skill::state::changes"
EXPIRE = "iii-skill::state::expire"
HISTORY = "iii-skill::state::history"
IMPORT = "iii-skill::state::import"
PAST = "iii-skill::state::past"

_TEXT = {"type": "string"}
_COUNT = {"type": ["integer", "null"], "minimum": 0}


def _request(required: str, /, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = sorted(required.split())
    return schema


_response = _request

FUNCTIONS = (
    FunctionInfo(
        "state::set",
        "Store a value under a scope and a key; what was there is replaced.",
        _request("scope key value", scope=_TEXT, key=_TEXT, value={}),
        _response("new_value", new_value={}, old_value={}),
    ),
    FunctionInfo(
        "state::get",
        "The value under a scope and a key; no result when there is none.",
        _request("scope key", scope=_TEXT, key=_TEXT),
    ),
    FunctionInfo(
        "state::delete",
        "Remove a key and give back its value; no result when there was none.",
        _request("scope key", scope=_TEXT, key=_TEXT),
    ),
    FunctionInfo(
        "state::update",
        "Apply ops (set, merge, increment, decrement, append, remove) to a value in one atomic step.",
        _request("scope key ops", scope=_TEXT, key=_TEXT, ops={"type": "array", "items": {"type": "object"}}),
        _response(
            "new_value", new_value={}, old_value={}, errors={"type": "array", "items": {"type": "object"}}
        ),
    ),
    FunctionInfo(
        "state::list",
        "All values of a scope, without their keys, in order of first insertion.",
        _request("scope", scope=_TEXT),
    ),
    FunctionInfo(
        "state::list_groups",
        "All scopes, sorted.",
        _request(""),
        _response("groups", groups={"type": "array", "items": _TEXT}),
    ),
    FunctionInfo(
        "state::compare-and-set",
        "Store a value only if `expected` is there now (absent or null: only if there is none).",
        _request("scope key value", scope=_TEXT, key=_TEXT, value={}, expected={}),
        _response("swapped", swapped={"type": "boolean"}, current={}),
    ),
    FunctionInfo(
        "state::list_keys",
        "All keys of a scope in order of first insertion.",
        _request("scope", scope=_TEXT),
        _response("keys", keys={"type": "array", "items": _TEXT}),
    ),
    FunctionInfo(
        "state::list_entries",
        "Keys and values of a scope, page by page; up to 1000 keys all from one moment.",
        _request(
            "scope",
            scope=_TEXT,
            cursor={"type": ["string", "null"]},
            limit={**_COUNT, "minimum": 1, "maximum": 1000},
            max_bytes={**_COUNT, "minimum": 256, "maximum": 8_000_000},
        ),
        _response(
            "entries next_cursor done offset total",
            entries={"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
            next_cursor={"type": ["string", "null"]},
            done={"type": "boolean"},
            offset={"type": "integer"},
            total={"type": "integer"},
        ),
    ),
)
