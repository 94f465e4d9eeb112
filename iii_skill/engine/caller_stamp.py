"""What the engine writes into a call on its way: who called, and which function was called."""

from __future__ import annotations

import msgspec

from iii_skill.json_slices import SLICE

CALLER_FIELD = "_caller_worker_id"
_CALLER = CALLER_FIELD.encode()
_BAGGAGE_KEY = "iii.function.id"


def stamp_caller(data: bytes, caller_id: str) -> bytes:
    """The payload with `_caller_worker_id` set; anything but an object stays as it is.

    The stamp goes last, because of equal keys the last one counts: no spelling of the caller's own field
    survives it. Nor is it taken out of long data, which nobody takes apart.
    """
    if data[:1] != b"{":
        return data
    if len(data) <= SLICE and _CALLER in data:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        if fields.pop(CALLER_FIELD, None) is not None:
            data = msgspec.json.encode(fields)
    tail = b'"' + _CALLER + b'":"' + caller_id.encode() + b'"}'
    head = data[:-1]
    return head + tail if not head[1:].strip() else head + b"," + tail


def with_function(baggage: str, function_id: str) -> str:
    """The caller's baggage with the called function in front."""
    item = f"{_BAGGAGE_KEY}={function_id}"
    if baggage == item:
        return baggage
    others = [other for other in baggage.split(",") if other.split("=", 1)[0].strip() != _BAGGAGE_KEY]
    return ",".join([item, *(other for other in others if other.strip())])
