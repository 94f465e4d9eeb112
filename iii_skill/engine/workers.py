"""Worker: one connected program, what it said about itself, and the calls it is executing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection

import msgspec
from msgspec import UNSET, Raw, UnsetType

from iii_skill.calls import Call, Failure, Outcome, Result, no_reply
from iii_skill.engine.caller_stamp import stamp_caller, with_function
from iii_skill.engine.ids import fresh_id
from iii_skill.protocol.codec import encode, invoke_text, result_text
from iii_skill.protocol.connection import AT_ONCE, AT_ONCE_BYTES, DEFAULT_NAMESPACE, UNREADABLE, Connection
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.protocol.messages import ErrorBody
from iii_skill.protocol.outgoing import InvocationReply, Invoke, ToWorker
from iii_skill.readable import WHY_UNREADABLE, readable

OLD_PYTHON_LIMIT = 1024 * 1024
"""The largest message in bytes that Python SDKs before 0.24.6 survive."""

BUFFER_LIMIT = 64 * 1024 * 1024
"""Bytes waiting for a worker that does not read, beyond which it gets no further calls."""

ANSWER_LIMIT = 256 * 1024 * 1024
"""Bytes waiting for a worker that does not read, beyond which answers are left out."""

WINDOW_BYTES = 64 * 1024 * 1024
"""What the answers of `state::*` that one worker waits for may have together, by estimate."""

FIRST_WINDOW, WIDEST_WINDOW = 16, 1024
"""Calls of `state::*` in flight: at first, and once answers have been small."""

_LONG = 1024 * 1024
"""Answers of this size are made only when they leave."""

_AROUND = 4096
"""Bytes of an answer around its value, but for odd ones, which are refused a little late."""

_SMALL = 4096
"""Answers of this size pass unasked: the calls that they answer are bounded."""

ATTACHED_RUNTIME = "iii-skill"
"""What an attached state worker of ours calls its runtime."""

_encode = msgspec.json.Encoder().encode

RESTART = 1012
"""The close code after which every SDK reconnects."""

TOO_LARGE = "payload_too_large"
BUSY = "worker_not_reading"


class Said(msgspec.Struct, frozen=True, gc=False):
    """What a worker says of the handler out of which it calls."""

    function_id: str
    invocation_id: str
    parent: Raw | UnsetType = UNSET


class Caller(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Who called, as functions and observers see it."""

    worker_id: str
    worker_name: str
    function_id: str | None = None
    invocation_id: str | None = None
    parent: Raw | UnsetType = UNSET


class Worker:
    """A connected worker.

    `wake` tells the driver how many texts are to be sent, `close` ends the socket, `room(size, limit)` says
    whether so many bytes more may wait for the worker when no more than `limit` may.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        wake: Callable[[int], None],
        close: Callable[[int, str], None],
        room: Callable[[int, int], bool],
        address: str | None = None,
    ) -> None:
        self.connection = connection
        self.id = connection.worker_id
        self.token = connection.token
        self.address = address
        self.close = close
        self.executing: dict[str, Call] = {}
        self._aged: dict[str, Call] = {}
        """Those that were there when it was last looked at."""
        self.connected_at_ms = int(time.time() * 1000)
        self.live = True
        self.identified = False
        self.name: str | None = None
        self.description: str | None = None
        self.runtime: str | None = None
        self.version: str | None = None
        self.os: str | None = None
        self.pid: int | None = None
        self.isolation: str | None = None
        self.message_limit = MESSAGE_LIMIT
        self.features: frozenset[str] = frozenset()
        """What it said it understands beside the messages of old SDKs."""
        self.observes = False
        """True: it takes the messages of observers."""
        self.as_caller = b""
        """How the functions that it calls see it, encoded."""
        self._set_caller()
        self.attached = False
        """True for a state worker of ours: its `"result":null` is a stored null, not "nothing"."""
        self.receiving = False
        """True while its driver works on what it sent, and sends on what that led to by itself."""
        self.waiting = 0
        """Calls of `state::*` inside the host that this worker waits for."""
        self.window = FIRST_WINDOW
        """How many of them may be in flight before the next one waits."""
        self.failed: Callable[[str], None] = lambda _code: None
        """Told the codes of its calls that failed."""
        self._wake = wake
        self._room = room

    @property
    def namespace(self) -> str:
        """The namespace of everything this worker registers."""
        return self.connection.namespace or DEFAULT_NAMESPACE

    @property
    def label(self) -> str:
        """How messages for people name this worker."""
        return f"worker '{self.name}'" if self.name else f"worker {self.id}"

    def identify(
        self,
        *,
        name: str | None,
        runtime: str | None,
        version: str | None,
        features: Collection[str] = (),
    ) -> None:
        """Note the SDK, what it understands, and the largest message that it survives."""
        self.identified = True
        self.name = name
        self.features = frozenset(features)
        self.observes = bool(self.features & {"observe.v1", "observe.v2"})
        self._set_caller()
        self.runtime, self.version = runtime, version
        self.attached = runtime == ATTACHED_RUNTIME
        if runtime == "python" and _before(version, (0, 24, 6)):
            self.message_limit = OLD_PYTHON_LIMIT

    def let_go(self) -> None:
        """The worker is gone: hold its socket no more."""
        self._wake, self.close, self._room = _nothing, _nothing, _no_room

    def end_aged_calls(self) -> None:
        """Answer the calls that were there the last time already."""
        for invocation_id, call in self._aged.items():
            if self.executing.get(invocation_id) is call:
                del self.executing[invocation_id]
                call.reply(Failure("TIMEOUT", f"{self.label} did not answer the call of {call.function_id}."))
        self._aged = dict(self.executing)

    def drop_calls_of(self, caller_id: str) -> None:
        """Forget the calls of a caller that is gone: their answers have nowhere to go."""
        for invocation_id in [key for key, call in self.executing.items() if call.caller_id == caller_id]:
            del self.executing[invocation_id]

    def send(self, message: ToWorker) -> None:
        """Send a message of the protocol; nothing happens once the worker is gone.

        A worker that leaves too many of them unread is closed: it comes back and hears all of it again.
        """
        if not self.live:
            return
        text = encode(message)
        if self._room(len(text), BUFFER_LIMIT):
            self._wake(self.connection.queue(text))
        else:
            self.close(RESTART, "too many messages were left unread")

    def answer(self, call: Call, inside: int, outcome: Outcome) -> None:
        """Send the answer to a call that this worker made; `inside` is 1 when it is counted in `waiting`."""
        self.waiting -= inside
        # The reply holds the call that holds it: let go of it here, or every call waits for a collection.
        call.reply = no_reply
        invocation_id = call.invocation_id
        if invocation_id is None or not self.live:
            return
        if type(outcome) is Result:
            value = outcome.value
            if value is not None and len(value) > _LONG:
                self._answer_later(call, outcome, value, inside)
                return
            traceparent, baggage = call.traceparent, call.baggage
            if value is not None and traceparent is None and baggage is None:
                text = result_text(invocation_id, call.function_id, value)
            else:
                result = UNSET if value is None else Raw(value)
                text = encode(
                    InvocationReply(invocation_id, call.function_id, result, None, traceparent, baggage)
                )
        else:
            assert isinstance(outcome, Failure)
            self.failed(outcome.code)
            text = encode(_failed(call, outcome))
        if len(text) > _SMALL or self.window < WIDEST_WINDOW:
            text = self._bounded(text, call, outcome, inside)
        connection = self.connection
        waiting = connection.queue(text)
        if not self.receiving and (
            # The driver that was told of the first one sends the others with it.
            waiting == 1 or waiting >= AT_ONCE or connection.waiting_bytes > AT_ONCE_BYTES
        ):
            self._wake(waiting)

    def _answer_later(self, call: Call, outcome: Result, value: bytes, inside: int) -> None:
        """Queue a long answer that is made when the worker takes it: until then the value is not copied."""
        size = len(value) + _AROUND
        if size > self.message_limit or not self._room(size, ANSWER_LIMIT):
            message = InvocationReply(
                call.invocation_id or "", call.function_id, Raw(value), None, call.traceparent, call.baggage
            )
            self._wake(self.connection.queue(self._bounded(encode(message), call, outcome, inside)))
            return
        if inside:
            self._adapt(size)
        invocation_id, function_id = call.invocation_id or "", call.function_id
        traceparent, baggage = call.traceparent, call.baggage

        def text() -> bytes:
            return encode(InvocationReply(invocation_id, function_id, Raw(value), None, traceparent, baggage))

        self._wake(self.connection.queue_later(text, size))

    def _bounded(self, text: bytes, call: Call, outcome: Outcome, inside: int) -> bytes:
        """The text of an answer, or of what takes its place when the worker cannot have it."""
        if inside:
            self._adapt(len(text))
        if len(text) <= _SMALL:
            return text
        if len(text) > self.message_limit:
            return encode(self._without_values(call, outcome, len(text)))
        if not self._room(len(text), ANSWER_LIMIT):
            reason = f"{self.label} does not read its messages; the answer was left out."
            return encode(_failed(call, Failure(BUSY, reason)))
        return text

    def _adapt(self, size: int) -> None:
        """Let so many calls be in flight that answers of this size would be bearable."""
        self.window = max(1, min(self.window * 2, WIDEST_WINDOW, WINDOW_BYTES // max(size, 1)))

    def _without_values(self, call: Call, outcome: Outcome, size: int) -> InvocationReply:
        """The answer in place of one that is too large: a write that was made says so."""
        brief = outcome.brief if type(outcome) is Result else None
        if brief is not None:
            return InvocationReply(
                call.invocation_id or "", call.function_id, Raw(brief), None, call.traceparent, call.baggage
            )
        return _failed(call, Failure(TOO_LARGE, self._too_large("The answer", size)))

    def execute(self, call: Call) -> None:
        """Hand a call to this worker, or answer it with the reason why it was not sent."""
        # Events and HTTP payloads (no caller) are made or checked inside the host.
        failure = (self._unreadable(call) if call.caller_id is not None else None) or self._send(call)
        if failure is not None:
            call.reply(failure)

    def caller_of(self, said: Said | None) -> bytes:
        """How a function that this worker calls sees its caller; `said`: out of which handler."""
        if said is None:
            return self.as_caller
        return _encode(Caller(self.id, self.name or "", said.function_id, said.invocation_id, said.parent))

    def _set_caller(self) -> None:
        self.as_caller = _encode(Caller(self.id, self.name or ""))

    def _unreadable(self, call: Call) -> Failure | None:
        # An attached state worker refuses what cannot be read by itself, as the one in the host does.
        if not self.attached and not call.levels and not readable(call.data):
            return Failure(UNREADABLE, f"The call of {call.function_id} was not made: {WHY_UNREADABLE}")
        if call.metadata is not None and not readable(call.metadata):
            text = f"The call of {call.function_id} was not made, because of its metadata: {WHY_UNREADABLE}"
            return Failure(UNREADABLE, text)
        return None

    def _send(self, call: Call) -> Failure | None:
        invocation_id = call.invocation_id
        if invocation_id is None or invocation_id in self.executing:
            invocation_id = fresh_id()
        data = call.data if call.caller_id is None else stamp_caller(call.data, call.caller_id)
        metadata, traceparent, baggage = call.metadata, call.traceparent, call.baggage
        if metadata is None and traceparent is None and baggage is None and not self.observes:
            text = invoke_text(invocation_id, call.function_id, data)
        else:
            text = encode(
                Invoke(
                    invocation_id,
                    call.function_id,
                    Raw(data),
                    traceparent,
                    None if baggage is None else with_function(baggage, call.function_id),
                    None if metadata is None else Raw(metadata),
                    *(self._observed(call) if self.observes else ()),
                )
            )
        if len(text) > self.message_limit:
            return Failure(TOO_LARGE, self._too_large("The call", len(text)))
        if not self._room(len(text), BUFFER_LIMIT):
            return Failure(BUSY, f"{self.label} does not read its messages; the call was not made.")
        if call.reply is not no_reply:
            # Nobody waits for the answer of a void call: it is not kept.
            self.executing[invocation_id] = call
        connection = self.connection
        waiting = connection.queue(text)
        if waiting == 1 or waiting >= AT_ONCE or connection.waiting_bytes > AT_ONCE_BYTES:
            # As in `answer`.
            self._wake(waiting)
        return None

    def _observed(self, call: Call) -> tuple[Raw | None, int, Raw | None]:
        """What newer SDKs are told beside: who calls, after how many observers, and for which."""
        return (
            None if call.caller is None else Raw(call.caller),
            call.depth,
            None if call.activation is None else Raw(call.activation),
        )

    def _too_large(self, what: str, size: int) -> str:
        text = f"{what} has {size} bytes, more than the {self.message_limit} bytes that {self.label} can take"
        if self.message_limit == OLD_PYTHON_LIMIT:
            return f"{text}: Python SDK {self.version} closes the connection on it; 0.24.6 and newer take it."
        return text + "."


def _failed(call: Call, failure: Failure) -> InvocationReply:
    return InvocationReply(
        call.invocation_id or "",
        call.function_id,
        UNSET,
        ErrorBody(failure.code, failure.message, failure.stacktrace),
        call.traceparent,
        call.baggage,
    )


def _nothing(*_arguments: object) -> None:
    """What a worker that is gone does."""


def _no_room(_size: int, _limit: int) -> bool:
    return False


def _before(version: str | None, bound: tuple[int, int, int]) -> bool:
    """True for a release before `bound`; False when it is no version of three numbers."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version or "")
    return found is not None and tuple(map(int, found.groups())) < bound
