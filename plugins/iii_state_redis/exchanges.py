"""The exchanges of the adapter: read a field, write one whatever is there, and ask anything else."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from iii_skill.adapter import Deferred
from iii_skill.errors import AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change

from .faults import FATE_UNKNOWN, ServerFault, adapter_error
from .layout import Bucket

if TYPE_CHECKING:
    from .cache import Key
    from .store import Store

NULL = b"null"
MULTI = b"*1\r\n$5\r\nMULTI\r\n"
EXEC = b"*1\r\n$4\r\nEXEC\r\n"


def is_json(value: bytes) -> bool:
    """True when the bytes are one JSON document that every SDK can read."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def revision(stream_id: bytes) -> int:
    """A stream id as one integer that sorts like it: 41 bits of milliseconds, 22 of sequence."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    return _beginning(milliseconds) + int(sequence)


@functools.lru_cache(maxsize=4)
def _beginning(milliseconds: bytes) -> int:
    """The first revision of a millisecond; most ids share theirs with the one before."""
    return int(milliseconds) << 22


def _new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


class Routed(msgspec.Struct, eq=False):
    """An exchange that may be sent again to where the server says, when it has not been carried out."""

    store: Store
    bucket: Bucket
    command: bytes = b""
    redirects: int = 0
    deadline: float = 0.0
    replies = 1
    writes = False
    shows = False
    """It tells what is written, so it must not overtake a write that was sent before it."""

    def reply(self, value: Any) -> None:
        """Answer, or follow a redirection."""
        store = self.store
        if type(value) is ServerFault:
            if not store.redirect(self, value):
                store.arrived(self)
                self.failed(adapter_error(value))
        elif not (store.late and store.asked_again(self)):
            self.answered(value)

    def refused(self, error: AdapterUnavailable) -> None:
        """It never left."""
        self.store.arrived(self)
        self.failed(error)

    def lost(self, reason: str) -> None:
        """A read had no effect; a write may have had its effect."""
        self.store.arrived(self)
        if self.writes:
            self.failed(
                AdapterTimeout(
                    f"Redis was lost before it answered ({reason}); {FATE_UNKNOWN}.", fate_told=True
                )
            )
        else:
            self.failed(AdapterUnavailable(f"Redis was lost before it answered ({reason}); try again."))

    def overdue(self, seconds: float) -> None:
        """No answer within the time-out."""
        fate = f"; {FATE_UNKNOWN}" if self.writes else ""
        self.failed(
            AdapterTimeout(f"Redis did not answer within {seconds:g} s{fate}.", fate_told=self.writes)
        )

    def answered(self, value: Any) -> None:
        """The reply, which is no error."""
        raise NotImplementedError

    def failed(self, error: AdapterError) -> None:
        """There will be no reply; may be called more than once."""
        raise NotImplementedError


class Ask(Routed):
    """Any command; the future gets the raw reply."""

    future: asyncio.Future[Any] = msgspec.field(default_factory=_new_future)

    def answered(self, value: Any) -> None:
        """Hand it on."""
        if not self.future.done():
            self.future.set_result(value)

    def failed(self, error: AdapterError) -> None:
        """Hand it on."""
        if not self.future.done():
            self.future.set_exception(error)


class Look(Ask):
    """Any command that tells what is written."""

    shows = True


class Moment(Look):
    """Read commands inside MULTI and EXEC; the future gets the list of their replies."""

    replies: int = 3
    collected: list[Any] = []

    @classmethod
    def of(cls, store: Store, bucket: Bucket, commands: Sequence[bytes]) -> Moment:
        """The transaction of these commands."""
        return cls(store, bucket, b"".join([MULTI, *commands, EXEC]), replies=len(commands) + 2)

    def reply(self, value: Any) -> None:
        """The last reply has all values; an earlier one may have the reason why it has none."""
        self.collected.append(value)
        if len(self.collected) < self.replies:
            return
        replies, self.collected = self.collected, []
        nested = value if type(value) is list else []
        fault = next((reply for reply in (*replies, *nested) if type(reply) is ServerFault), value)
        super().reply(fault)


class Ignored(Routed):
    """A command whose reply does not matter."""

    def answered(self, value: Any) -> None:
        """Drop it."""

    def failed(self, error: AdapterError) -> None:
        """Drop it."""


class Read(Routed):
    """HGET: the bytes of one key, checked unless they are the ones known."""

    shows = True
    key: Key = ("", "")
    answer: Deferred[bytes | None] = msgspec.field(default_factory=Deferred)

    def answered(self, value: bytes | None) -> None:
        """The value, or the error that it is no JSON."""
        if self.answer.done():
            return
        if value is None or self.store.checked(self.key, value):
            self.answer.set_result(value)
        else:
            self.answer.set_exception(garbage(self.key))

    def failed(self, error: AdapterError) -> None:
        """Hand it on."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Write(Routed):
    """Set or delete, whatever is there."""

    writes = True
    key: Key = ("", "")
    new: bytes | None = None
    expected: bytes | None = None
    """What the key held before, as far as known: bytes that need no check."""
    answer: Deferred[Change] = msgspec.field(default_factory=Deferred)

    def answered(self, value: list[bytes | None]) -> None:
        """The Change; an old value that is no JSON counts as null, so that a broken key can be repaired."""
        if self.answer.done():
            return
        stream_id, old = value
        assert stream_id is not None
        if old is not None:
            self.store.told(self.bucket, old)
            if old != self.expected and not is_json(old):
                old = NULL
        scope, key = self.key
        self.answer.set_result(Change(scope, key, old, self.new, revision(stream_id)))

    def failed(self, error: AdapterError) -> None:
        """What the key holds now is not known."""
        self.store.known.forget(self.key)
        if not self.answer.done():
            self.answer.set_exception(error)


def garbage(key: Key) -> AdapterError:
    """The error of a key whose bytes another program broke."""
    return AdapterError(
        f"The value of key {key[1]!r} in scope {key[0]!r} is no JSON; another program wrote it. "
        "Set or delete the key to repair it."
    )
