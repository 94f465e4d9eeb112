"""The commands of the adapter: read a field, write one whatever is there, and any other command.

A command knows what becomes of its reply and nothing of who sends it: what it needs of that is
`CommandSender`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from iii_skill.adapter import Deferred
from iii_skill.adapters.shared import NULL, Key, KnownValues, broken_value, is_json
from iii_skill.errors import FATE_UNKNOWN, AdapterError, AdapterTimeout, AdapterUnavailable
from iii_skill.values import Change

from .layout import Bucket
from .resends import Resends
from .server_errors import ServerFault, adapter_error

MULTI = b"*1\r\n$5\r\nMULTI\r\n"
EXEC = b"*1\r\n$4\r\nEXEC\r\n"


class CommandSender(Protocol):
    """What a command needs of the store that sends it."""

    known: KnownValues
    resends: dict[int, Resends]
    """What is sent again, by bucket; empty when nothing is."""

    def resend(self, command: CommandRules, fault: ServerFault) -> bool:
        """Send it again where that is safe and helps: the server has not carried it out."""

    def settled(self, command: CommandRules) -> None:
        """It has been answered, or never will be."""

    def overtook(self, command: CommandRules) -> bool:
        """True when its reply does not show a write that was sent before it, and it was sent again."""

    def added_to_stream(self, bucket: Bucket, size: int) -> None:
        """A value of so many bytes has gone into the stream of the bucket."""


def revision(stream_id: bytes) -> int:
    """A stream id as one integer that sorts like it: 41 bits of milliseconds, 22 of sequence."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    return _beginning(milliseconds) + int(sequence)


@functools.lru_cache(maxsize=4)
def _beginning(milliseconds: bytes) -> int:
    """The first revision of a millisecond; most ids share theirs with the one before."""
    return int(milliseconds) << 22


class CommandRules:
    """What becomes of a command's reply, whatever struct holds its fields."""

    __slots__ = tuple[str, ...]()
    backend: CommandSender
    bucket: Bucket
    command: bytes
    resent: int
    """How often it was sent again."""
    deadline: float
    replies: int = 1
    writes: bool = False
    shows: bool = False
    """It shows what is written, so it must not overtake a write that was sent before it."""

    def reply(self, value: Any) -> None:
        """Take the reply, or have the command sent again."""
        backend = self.backend
        if type(value) is ServerFault:
            # Not carried out and sent again: the reply to that will come. Everything else is the end of it.
            if not backend.resend(self, value):
                backend.settled(self)
                self.failed(adapter_error(value))
        elif not (backend.resends and backend.overtook(self)):
            self.answered(value)

    def refused(self, error: AdapterUnavailable) -> None:
        """It never left."""
        self.backend.settled(self)
        self.failed(error)

    def lost(self, reason: str) -> None:
        """A read had no effect; a write may have had its effect."""
        self.backend.settled(self)
        if self.writes:
            self.failed(
                AdapterTimeout(
                    f"Redis was lost before it answered ({reason}); {FATE_UNKNOWN}.", fate_told=True
                )
            )
        else:
            self.failed(AdapterUnavailable(f"Redis was lost before it answered ({reason}); try again."))

    def overdue(self, seconds: float) -> None:
        """No answer within the time-out. It keeps its place: the late reply is still its own."""
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


class Command(CommandRules, msgspec.Struct, eq=False):
    """A command of its own."""

    backend: CommandSender
    bucket: Bucket
    command: bytes = b""
    resent: int = 0
    deadline: float = 0.0


def _new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


class RawCommand(Command):
    """Any command; the future gets the raw reply."""

    future: asyncio.Future[Any] = msgspec.field(default_factory=_new_future)

    def answered(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def failed(self, error: AdapterError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class ReadCommand(RawCommand):
    """Any command that shows what is written."""

    shows = True


class Snapshot(ReadCommand):
    """Read commands inside MULTI and EXEC; the future gets the list of their replies."""

    replies: int = 3
    collected: list[Any] = []

    @classmethod
    def of(cls, backend: CommandSender, bucket: Bucket, commands: Sequence[bytes]) -> Snapshot:
        """The transaction of these commands."""
        return cls(backend, bucket, b"".join([MULTI, *commands, EXEC]), replies=len(commands) + 2)

    def reply(self, value: Any) -> None:
        """The last reply has all values; an earlier one may have the reason why it has none."""
        self.collected.append(value)
        if len(self.collected) < self.replies:
            return
        replies, self.collected = self.collected, []
        nested = value if type(value) is list else []
        fault = next((reply for reply in (*replies, *nested) if type(reply) is ServerFault), value)
        super().reply(fault)


class FireAndForget(Command):
    """A command whose reply does not matter."""

    def answered(self, value: Any) -> None:
        """Dropped."""

    def failed(self, error: AdapterError) -> None:
        """Dropped."""


class GetValue(Command):
    """HGET: the bytes of one key, checked unless they are the ones known."""

    shows = True
    key: Key = ("", "")
    answer: Deferred[bytes | None] = msgspec.field(default_factory=Deferred)

    def answered(self, value: bytes | None) -> None:
        if self.answer.done():
            return
        known = self.backend.known
        if value is None or known.get(self.key) == value:
            self.answer.set_result(value)
        elif is_json(value):
            known.put(self.key, value)
            self.answer.set_result(value)
        else:
            self.answer.set_exception(broken_value(self.key))

    def failed(self, error: AdapterError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class WriteValue(Command):
    """Set or delete, whatever is there."""

    writes = True
    key: Key = ("", "")
    new: bytes | None = None
    expected: bytes | None = None
    """What the key held before, as far as known: bytes that need no check."""
    answer: Deferred[Change] = msgspec.field(default_factory=Deferred)

    def answered(self, value: list[bytes | None]) -> None:
        """An old value that is no JSON counts as null, so that a broken key can be repaired."""
        if self.answer.done():
            return
        stream_id, old = value
        assert stream_id is not None
        if old is not None:
            self.backend.added_to_stream(self.bucket, len(old))
            if old != self.expected and not is_json(old):
                old = NULL
        scope, key = self.key
        self.answer.set_result(Change(scope, key, old, self.new, revision(stream_id)))

    def failed(self, error: AdapterError) -> None:
        """What the key holds now is not known."""
        self.backend.known.forget(self.key)
        if not self.answer.done():
            self.answer.set_exception(error)
