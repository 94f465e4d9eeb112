"""What a failing test shows of its engine: a readable end of the transcript, and the output of workers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from iii_skill.calls import Failure
from iii_skill.testing.engine.recorder import Event, Note, RecordedCall, Recorder

_LINES = 200


def transcript(recorder: Recorder) -> str:
    """All that happened, one JSON object a line."""
    return "".join(
        json.dumps(_object(one), ensure_ascii=False, separators=(",", ":")) + "\n"
        for one in recorder.history()
    )


def readable(recorder: Recorder, waiting: Iterable[object] = ()) -> str:
    """The last that happened, for people, and faults that wait; what SDKs ask the engine is left out."""
    lines = [
        str(one)
        for one in recorder.history()
        if not (isinstance(one, RecordedCall) and one.function_id.startswith("engine::"))
    ]
    cut = [f"… {len(lines) - _LINES} earlier lines"] if len(lines) > _LINES else []
    missed = [f"no call was struck by the fault {fault}" for fault in waiting]
    return "\n".join([*cut, *lines[-_LINES:], *missed])


def _object(one: Event | RecordedCall | Note) -> dict[str, Any]:
    head: dict[str, Any] = {"n": one.number, "at": round(one.at, 6)}
    if isinstance(one, Event):
        values = {"old_value": one.old_value, "new_value": one.new_value}
        return head | {"what": "event", "type": one.type, "scope": one.scope, "key": one.key} | values
    if isinstance(one, Note):
        return head | {"what": "note", "text": one.text}
    row = head | {
        "what": "call",
        "function_id": one.function_id,
        "caller": one.caller,
        "payload": one.payload,
    }
    if one.seconds is not None:
        row["seconds"] = round(one.seconds, 6)
    if one.fault is not None:
        row["fault"] = one.fault
    if isinstance(one.outcome, Failure):
        return row | {"error": {"code": one.outcome.code, "message": one.outcome.message}}
    return row | ({} if one.outcome is None else {"result": one.result})
