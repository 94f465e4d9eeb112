"""State events: what a change was, and the payload that triggers receive."""

from __future__ import annotations

import msgspec

from iii_skill.values import Change

_encode = msgspec.json.Encoder().encode


def event_type(change: Change) -> str:
    """`state:created`, `state:updated` or `state:deleted` (also when nothing was there to delete)."""
    if change.new is None:
        return "state:deleted"
    return "state:created" if change.old is None else "state:updated"


def event_payload(change: Change) -> bytes:
    """The encoded payload that conditions and handlers get; not for a change that was kept."""
    return b'{"type":"state","event_type":"%b","scope":%b,"key":%b,"old_value":%b,"new_value":%b}' % (
        event_type(change).encode(),
        _encode(change.scope),
        _encode(change.key),
        b"null" if change.old is None else change.old,
        b"null" if change.new is None else change.new,
    )
