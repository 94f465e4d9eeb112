"""Texts to messages and back: one decode, one encode, payloads stay encoded."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from iii_skill.protocol.messages import Message
from iii_skill.protocol.outgoing import ToWorker


class _Kind(msgspec.Struct):
    type: str


decode: Callable[[bytes], Message] = msgspec.json.Decoder(Message).decode
"""The message of one text, which is UTF-8; raises one of UNREADABLE_TEXT."""

UNREADABLE_TEXT = (msgspec.DecodeError, RecursionError)
_kind = msgspec.json.Decoder(_Kind)
_loose = msgspec.json.Decoder()

encode: Callable[[ToWorker], bytes] = msgspec.json.Encoder().encode
"""The text of one message."""

DIGITS = bytes(
    ord("x") if byte in b"0123456789abcdef" else byte if byte == ord("-") else ord("?") for byte in range(256)
)
NORMAL_ID = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
"""What DIGITS makes of the lower-case dashed form of a UUID, as SDKs send it. A pattern would cost thrice."""

_ANSWER = b'{"type":"invocationresult","invocation_id":"'
_INVOKE = b'{"type":"invokefunction","invocation_id":"'
_MOST_NAMES = 1000
_answered: dict[str, bytes] = {}
_invoked: dict[str, bytes] = {}

# Only in a text that does not parse: the id of the call whose answer would otherwise never come.
_KIND = re.compile(rb'"type"\s*:\s*"(invokefunction|invocationresult)"')
_INVOCATION_ID = re.compile(rb'"invocation_id"\s*:\s*"([0-9A-Fa-f-]{32,36})"')
_OBSERVE = re.compile(rb'"type"\s*:\s*"observe"')
_FUNCTION_ID = re.compile(rb'"function_id"\s*:\s*"([^"\\]*)"')


LENIENTLY_READ = 128 * 1024
"""Texts up to so many bytes are read once more by a parser that takes NaN and lone surrogates."""

_SEARCHED = 4096
"""Bytes at either end of a longer text in which its envelope is looked for."""


class Malformed(Exception):
    """A text that is no message.

    `invocation_id` is set when it was meant to be a call that waits, `observer_id` when an `observe`.
    `answers`: it was meant to be the answer to that call.
    """

    def __init__(
        self,
        reason: str,
        *,
        invocation_id: str | None = None,
        function_id: str = "",
        observer_id: str | None = None,
        answers: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.invocation_id = invocation_id
        self.function_id = function_id
        self.answers = answers
        self.observer_id = observer_id


def result_text(invocation_id: str, function_id: str, value: bytes) -> bytes:
    """The text of an `Answer` with a result and without a trace, as `encode` makes it, for a normal id.

    Nearly all texts are such: put together, they cost a third of what encoding them does.
    """
    name = _answered.get(function_id) or _named(_answered, function_id, "result")
    return b"".join((_ANSWER, invocation_id.encode(), name, value, b"}"))


def invoke_text(invocation_id: str, function_id: str, data: bytes) -> bytes:
    """The text of an `Invoke` of id, function and data alone, as `encode` makes it, for a normal id."""
    name = _invoked.get(function_id) or _named(_invoked, function_id, "data")
    return b"".join((_INVOKE, invocation_id.encode(), name, data, b"}"))


def _named(names: dict[str, bytes], function_id: str, member: str) -> bytes:
    """What stands in a text between its id and the value of that member; it is remembered."""
    if len(names) >= _MOST_NAMES:
        names.clear()
    name = names[function_id] = b'","function_id":%b,"%b":' % (
        msgspec.json.encode(function_id),
        member.encode(),
    )
    return name


def normal_id(invocation_id: str) -> str | None:
    """The lower-case dashed form of a UUID, or None when it is none."""
    if invocation_id.encode().translate(DIGITS) == NORMAL_ID:
        return invocation_id
    try:
        return str(uuid.UUID(invocation_id))
    except ValueError:
        return None


def kind_of(text: bytes) -> str | None:
    """The type of a message, None when it has none."""
    try:
        return _kind.decode(text).type
    except (msgspec.DecodeError, RecursionError):
        return None


def malformed(text: bytes, reason: str) -> Malformed:
    """What can be saved of a text that is no message."""
    if len(text) > LENIENTLY_READ:
        # What lies between is nobody's business here, and may be 64 MB of it.
        text = text[:_SEARCHED] + b"\n" + text[-_SEARCHED:]
    kind = _KIND.search(text)
    found = _INVOCATION_ID.search(text)
    if kind is None or found is None:
        return Malformed(reason, observer_id=_observer_id(text) if _OBSERVE.search(text) else None)
    # A payload may hold fields of the same names: believe the parsed frame where there is one.
    frame = _frame(text)
    if frame is None:
        name = _FUNCTION_ID.search(text)
        return Malformed(
            reason,
            invocation_id=normal_id(found.group(1).decode()),
            function_id=name.group(1).decode("utf-8", "replace") if name else "",
            answers=kind.group(1) == b"invocationresult",
        )
    if not isinstance(frame, dict) or frame.get("type") not in ("invokefunction", "invocationresult"):
        return Malformed(reason)
    invocation_id, function_id = frame.get("invocation_id"), frame.get("function_id")
    return Malformed(
        reason,
        invocation_id=normal_id(invocation_id) if isinstance(invocation_id, str) else None,
        function_id=function_id if isinstance(function_id, str) else "",
        answers=frame["type"] == "invocationresult",
    )


def _frame(text: bytes) -> Any:
    """What the text says, read as leniently as can be; None when nobody can read it."""
    try:
        return _loose.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _observer_id(text: bytes) -> str | None:
    """The id of an `observe` that has one."""
    frame = _frame(text)
    if not isinstance(frame, dict) or frame.get("type") != "observe":
        return None
    found = frame.get("id")
    return found if isinstance(found, str) else None
