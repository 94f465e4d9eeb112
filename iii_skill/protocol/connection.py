"""The host's side of one worker connection, without a socket, without asyncio and without a clock.

Rules: the host speaks first (`workerregistered`). A text becomes at most one message; a malformed one is
answered where something waits for it, and never ends the connection. Registrations are held back until
the worker has said its namespace (its first `engine::workers::register`) or the driver calls `release`
(the grace is over), then they are applied in the order in which they came. A void call has no
invocation id. Drivers pump: `receive_text`, route the messages, `texts_to_send`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, cast

import msgspec

from iii_skill.outline import Short
from iii_skill.protocol.codec import (
    DIGITS,
    NORMAL_ID,
    UNREADABLE_TEXT,
    Malformed,
    decode,
    encode,
    kind_of,
    malformed,
    normal_id,
)
from iii_skill.protocol.messages import (
    ErrorBody,
    FromWorker,
    InvocationResult,
    InvokeFunction,
    Observe,
    Ping,
    Pong,
    RegisterFunction,
    RegisterTrigger,
    RegisterTriggerType,
    Unobserve,
    UnreadableObserve,
    UnregisterFunction,
    UnregisterTrigger,
    UnregisterTriggerType,
)
from iii_skill.protocol.outgoing import FEATURES, InvocationReply, Pinged, ToWorker, WorkerRegistered
from iii_skill.readable import Inspected

MALFORMED = "invalid_message"
"""The code of the answer to a call that could not be read."""

UNREADABLE = "payload_unreadable"
"""The code of the error that a caller gets for an answer that could not be read."""

IDENTIFY = "engine::workers::register"
"""The call with which a worker says its name, SDK and namespace."""

DEFAULT_NAMESPACE = "default"

_HELD_BACK = (
    RegisterFunction,
    UnregisterFunction,
    RegisterTriggerType,
    UnregisterTriggerType,
    RegisterTrigger,
    UnregisterTrigger,
    # They name functions that are held back before them.
    Observe,
    UnreadableObserve,
    Unobserve,
)

PAYLOAD_KINDS = ("invokefunction", "invocationresult")
"""The messages whose payloads may have any size."""

LONGEST = {"invocationsobserved": 16 * 1024 * 1024}
"""Bytes that others may have."""

LONGEST_OTHER = 1024 * 1024

_ENVELOPE_LEVEL = 2
"""The level from which on a long message is left unread."""

_KNOWN_ACTIONS = ("void", "enqueue")

AT_ONCE = 32
"""So many texts do not wait for the end of the turn: whoever gets them works on them meanwhile."""

AT_ONCE_BYTES = 256 * 1024
"""Texts of so many bytes together do not wait either."""


Later: TypeAlias = Callable[[], bytes]
"""Makes a text."""


class _Namespace(msgspec.Struct):
    namespace: str | None = None


class Connection:
    """Protocol state of one worker: identity, namespace, what is held back, texts to send."""

    def __init__(self) -> None:
        self.worker_id = str(uuid.uuid4())
        self.token = str(uuid.uuid4())
        self.namespace: str | None = None
        self.warnings: list[str] = []
        """Why texts were dropped; the driver logs and clears them."""
        self.waiting_bytes = 0
        """How long the texts that wait to be sent are together."""
        self._held: list[FromWorker] = []
        self._out: list[bytes | Later] = []
        self._later = False
        self.send(WorkerRegistered(self.worker_id, self.token, FEATURES))

    def receive_text(self, text: bytes) -> Sequence[FromWorker]:
        """The messages to route now, in order; replies of the protocol itself go to `texts_to_send`."""
        message: FromWorker
        try:
            message = decode(text)
        except UNREADABLE_TEXT as error:
            fault = malformed(text, str(error) or type(error).__name__)
            if fault.observer_id is None:
                return self._refuse(fault)
            self.warnings.append(f"malformed message: {fault.reason}")
            message = UnreadableObserve(fault.observer_id, fault.reason)
        if type(message) is InvokeFunction:
            given = message.invocation_id
            if (
                given is not None
                and message.action is None
                and message.data is not msgspec.UNSET
                and message.function_id != IDENTIFY
                and given.encode().translate(DIGITS) == NORMAL_ID
            ):
                # Nearly every message is such a call.
                return (message,)
            return self._call(message)
        if type(message) is InvocationResult:
            return (message,)
        if isinstance(message, Ping):
            self.send(Pinged())
            return ()
        if isinstance(message, Pong):
            return ()
        if self.namespace is None and isinstance(message, _HELD_BACK):
            self._held.append(message)
            return ()
        return (message,)

    def receive_long(self, found: Inspected) -> Iterator[tuple[FromWorker, Short | None]]:
        """The same for a long text that was inspected; a call or an answer comes with its short text.

        Nobody registers anything in a text of megabytes, and taking it apart would hold everybody up.
        """
        text = found.outline.text
        if found.fault is not None:
            for message in self._refuse(malformed(text, found.fault)):
                yield message, None
            return
        short = found.outline.short(_ENVELOPE_LEVEL)
        kind = kind_of(short.text)
        if kind in PAYLOAD_KINDS:
            for message in self.receive_text(short.text):
                yield message, short
        elif len(text) <= LONGEST.get(kind or "", LONGEST_OTHER):
            for message in self.receive_text(text):
                yield message, None
        else:
            self.warnings.append(f"malformed message: {len(text)} bytes are too many for a '{kind}'")

    def release(self) -> Sequence[FromWorker]:
        """The grace is over: what was held back, now in the namespace `default`."""
        if self.namespace is None:
            self.namespace = DEFAULT_NAMESPACE
        held, self._held = self._held, []
        return held

    def send(self, message: ToWorker) -> int:
        """Queue a message; how many texts wait now."""
        return self.queue(encode(message))

    def queue(self, text: bytes) -> int:
        """Queue a text that is encoded already; how many wait now."""
        self._out.append(text)
        self.waiting_bytes += len(text)
        return len(self._out)

    def queue_later(self, text: Later, size: int) -> int:
        """Queue a long text that is made when it leaves, of about that size; how many wait now."""
        self._later = True
        self._out.append(text)
        self.waiting_bytes += size
        return len(self._out)

    def texts_to_send(self) -> list[bytes]:
        """What is to go out, drained."""
        if self._later:
            return [text if isinstance(text, bytes) else text() for text in self.unmade_texts()]
        out, self._out = self._out, []
        self.waiting_bytes = 0
        return cast(list[bytes], out)

    def unmade_texts(self) -> list[bytes | Later]:
        """The same, long texts not made yet: whoever sends them makes them one by one."""
        out, self._out = self._out, []
        self._later = False
        self.waiting_bytes = 0
        return out

    def _call(self, message: InvokeFunction) -> Sequence[FromWorker]:
        action = message.action
        if action is not None and action.type not in _KNOWN_ACTIONS:
            fault = f"unknown action type '{action.type}'; expected `void` or `enqueue`"
            self._refuse(_fault_of(message, fault))
            return ()
        if message.data is msgspec.UNSET:
            fault = "missing field `data`; send {} for an empty payload"
            self._refuse(_fault_of(message, fault))
            return ()
        given = message.invocation_id
        normal = None if given is None else normal_id(given)
        if given is not None and normal != given:
            if normal is None:
                self.warnings.append(f"call of {message.function_id}: invocation_id '{given}' is no UUID")
                text = f"invocation_id '{given}' is no UUID"
                self.send(InvocationReply(given, message.function_id, error=ErrorBody(MALFORMED, text)))
                return ()
            message = msgspec.structs.replace(message, invocation_id=normal)
        if self.namespace is None and message.function_id == IDENTIFY:
            self.namespace = _namespace_of(message) or DEFAULT_NAMESPACE
            return (message, *self.release())
        return (message,)

    def _refuse(self, fault: Malformed) -> Sequence[FromWorker]:
        """Answer a call that cannot be read; an answer that cannot be read becomes an error."""
        self.warnings.append(f"malformed message: {fault.reason}")
        if fault.invocation_id is None:
            return ()
        if fault.answers:
            text = (
                f"The answer of {fault.function_id} could not be read and was not passed on: {fault.reason}."
            )
            error = ErrorBody(UNREADABLE, text)
            return (InvocationResult(fault.invocation_id, fault.function_id, error=error),)
        error = ErrorBody(MALFORMED, f"The call could not be read and was not made: {fault.reason}.")
        self.send(InvocationReply(fault.invocation_id, fault.function_id, error=error))
        return ()


def _fault_of(message: InvokeFunction, reason: str) -> Malformed:
    given = message.invocation_id
    waits = given is not None and (message.action is None or message.action.type != "void")
    return Malformed(
        reason,
        invocation_id=normal_id(given) if waits and given is not None else None,
        function_id=message.function_id,
    )


def _namespace_of(message: InvokeFunction) -> str | None:
    assert message.data is not msgspec.UNSET
    try:
        namespace = msgspec.json.decode(bytes(message.data), type=_Namespace).namespace
    except msgspec.DecodeError:
        return None
    return namespace if namespace and namespace.strip() else None
