"""State events: what a write did, and the payload that triggers receive."""

from __future__ import annotations

import msgspec

from iii_skill.values import Change

_encode = msgspec.json.Encoder().encode


class StateEvent(msgspec.Struct, frozen=True, gc=False):
    """One write: encoded `old` and `new`, None where the key did not or does not exist."""

    scope: str
    key: str
    old: bytes | None
    new: bytes | None
    revision: int = 0

    @property
    def event_type(self) -> str:
        """`state:created`, `state:updated` or `state:deleted` (also when nothing was there to delete)."""
        if self.new is None:
            return "state:deleted"
        return "state:created" if self.old is None else "state:updated"

    def payload(self) -> bytes:
        """The encoded payload that conditions and handlers get."""
        return b'{"type":"state","event_type":"%b","scope":%b,"key":%b,"old_value":%b,"new_value":%b}' % (
            self.event_type.encode(),
            _encode(self.scope),
            _encode(self.key),
            b"null" if self.old is None else self.old,
            b"null" if self.new is None else self.new,
        )


def event_of(change: Change) -> StateEvent:
    """The event of a change that was made (not of one that was kept)."""
    return StateEvent(change.scope, change.key, change.old, change.new, change.revision)
