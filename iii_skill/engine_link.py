"""Link: one WebSocket connection from a worker of ours to an engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Raw
from picows import WSError, WSInvalidStatusError, ws_connect

from iii_skill.calls import Call, Failure, Outcome, Result
from iii_skill.engine.ids import fresh_id
from iii_skill.protocol import client
from iii_skill.protocol.connection import AT_ONCE
from iii_skill.protocol.limits import MESSAGE_LIMIT
from iii_skill.protocol.outgoing import (
    FunctionRegistered,
    HostError,
    InvocationReply,
    ObserverAdded,
    ObserverRemoved,
    ObserverView,
    RegistrationRejected,
    WithdrawTrigger,
    WorkerRegistered,
)
from iii_skill.protocol.unreached import NO_GREETING, WENT_AWAY, Refused, not_let_in, refused_by
from iii_skill.server.frames import masked_text_frames
from iii_skill.server.message_socket import READER_LOG, MessageSocket

logger = logging.getLogger(__name__)

PING_S = 20.0
"""Seconds without a byte after which the engine is pinged, and that it gets to answer."""

ANSWER_S = 10.0
"""Seconds that the engine gets to answer a question of ours."""

UNREACHED = (OSError, TimeoutError, ValueError, WSError)
"""What `connect` raises when there is no engine to talk to."""

GONE = Failure(*WENT_AWAY)


class FunctionName(NamedTuple):
    """One of our functions, as the engine calls it."""

    function_id: str
    namespace: str


class LinkOwner(Protocol):
    """Who takes what the engine sends."""

    url: str

    def called(self, link: Link, message: client.Invoked) -> None:
        """The engine calls one of our functions."""

    def delivered(self, link: Link, message: client.TriggerDelivered) -> None:
        """The engine hands us a trigger."""

    def withdrawn(self, message: WithdrawTrigger) -> None:
        """The engine takes a trigger back."""

    def observed(
        self, link: Link, function: FunctionName, revision: int, views: Sequence[ObserverView]
    ) -> None:
        """These observers of one of our functions there are, or are new."""

    def unobserved(self, observer_id: str) -> None:
        """An observer of one of our functions has ended."""


class Link(MessageSocket):
    """One connection to the engine."""

    def __init__(self, owner: LinkOwner) -> None:
        super().__init__()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, Call] = {}
        self._texts: list[bytes] = []
        self._scheduled = False
        self.greeted = asyncio.Event()
        self.lost = asyncio.Event()
        self.identity: tuple[str, str] | None = None
        self.features: frozenset[str] = frozenset()
        """What the engine serves beside what all engines do."""
        self.refusal: str | None = None
        self.rejected: dict[str, str] = {}

    def text_received(self, text: bytes, last_in_buffer: bool) -> None:
        """Take one message of the engine."""
        try:
            self._take(text)
        except Exception as error:
            logger.warning("a message of the engine is left out: %s: %s", type(error).__name__, error)
        if last_in_buffer:
            self._flush()

    def closed(self) -> None:
        """The engine is gone; what waits for it is told so."""
        self.lost.set()
        waiting, self._waiting = self._waiting, {}
        for call in waiting.values():
            call.reply(GONE)

    def send(self, text: bytes) -> None:
        """Queue a text; the texts of a turn of the loop leave in one write, or many of them at once."""
        self._texts.append(text)
        if len(self._texts) >= AT_ONCE:
            self._flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def call(self, call: Call) -> None:
        """Call a function of the engine; a lost connection answers at once."""
        if self.lost.is_set():
            call.reply(GONE)
            return
        invocation_id = call.invocation_id = call.invocation_id or fresh_id()
        self._waiting[invocation_id] = call
        metadata = None if call.metadata is None else Raw(call.metadata)
        message = client.WorkerCall(call.function_id, Raw(call.data), invocation_id, call.namespace, metadata)
        self.send(msgspec.json.encode(message))

    def abandon(self, call: Call) -> None:
        """Nobody waits for the answer any more: forget the call, or a handler that never answers keeps it."""
        if call.invocation_id is not None:
            self._waiting.pop(call.invocation_id, None)

    @property
    def waiting(self) -> int:
        """How many calls the engine has not answered."""
        return len(self._waiting)

    async def outcome(
        self, function_id: str, payload: bytes, *, namespace: str | None = "default", timeout: float | None
    ) -> Outcome:
        """What the engine answers a call; TimeoutError after `timeout` seconds."""
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        call = Call(function_id, payload, settle, namespace)
        self.call(call)
        try:
            return await asyncio.wait_for(future, timeout)
        except (TimeoutError, asyncio.CancelledError):
            self.abandon(call)
            raise

    async def ask(self, function_id: str, payload: object) -> bytes | Failure:
        """Call a function of the engine and wait for what it says; Refused when it says nothing."""
        try:
            outcome = await self.outcome(function_id, msgspec.json.encode(payload), timeout=ANSWER_S)
        except TimeoutError:
            text = f"The engine at {self._owner.url} did not answer {function_id} in {ANSWER_S:g} s."
            raise Refused(text) from None
        return outcome if isinstance(outcome, Failure) else outcome.value or b"null"

    def leave(self) -> None:
        """Send what is left, and end the connection."""
        self._flush()
        self.transport.disconnect()

    def _take(self, text: bytes) -> None:
        message = client.decode_from_host(text)
        if isinstance(message, client.Invoked):
            self._owner.called(self, message)
        elif isinstance(message, InvocationReply):
            call = self._waiting.pop(message.invocation_id, None)
            if call is not None:
                call.reply(_outcome(message))
        elif isinstance(message, client.TriggerDelivered):
            self._owner.delivered(self, message)
        elif isinstance(message, WithdrawTrigger):
            self._owner.withdrawn(message)
        elif isinstance(message, FunctionRegistered):
            function = FunctionName(message.id, message.namespace)
            self._owner.observed(self, function, message.revision, message.observers)
        elif isinstance(message, ObserverAdded):
            function = FunctionName(message.function_id, message.namespace)
            self._owner.observed(self, function, message.revision, [message.observer])
        elif isinstance(message, ObserverRemoved):
            self._owner.unobserved(message.id)
        elif isinstance(message, WorkerRegistered):
            self.identity = (message.worker_id, message.reattach_token)
            given = message.features if isinstance(message.features, list) else ()
            self.features = frozenset(feature for feature in given if isinstance(feature, str))
            self.greeted.set()
        elif isinstance(message, RegistrationRejected):
            self.rejected[message.function_id or message.worker_name or "?"] = message.owner_worker_id
        elif isinstance(message, HostError):
            self.refusal = refused_by(message.error.code, message.error.message)

    def _flush(self) -> None:
        self._scheduled = False
        if self._texts and not self.closing:
            texts, self._texts = self._texts, []
            self.underlying.write(masked_text_frames(texts))


def _outcome(message: InvocationReply) -> Outcome:
    if message.error is not None:
        return Failure(message.error.code, message.error.message, message.error.stacktrace)
    return Result(None if message.result is UNSET else bytes(message.result))


async def connect(owner: LinkOwner, *, token: str | None) -> Link:
    """A link that the engine has greeted; Refused when waiting mends nothing, else OSError or WSError."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        _, link = await ws_connect(
            lambda: Link(owner),
            owner.url,
            extra_headers=headers,
            max_frame_size=MESSAGE_LIMIT,
            logger_name=READER_LOG,
            # A token goes to the address that was given, and to no other.
            max_redirects=0,
            enable_auto_pong=False,
            # An engine that vanished without a word is noticed.
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_S,
            auto_ping_reply_timeout=PING_S,
        )
    except WSInvalidStatusError as error:
        status = 0 if error.response is None else int(error.response.status)
        raise not_let_in(owner.url, status) from None
    if not isinstance(link, Link):
        raise ConnectionResetError("it went away while it let us in")
    greeted = asyncio.ensure_future(link.greeted.wait())
    lost = asyncio.ensure_future(link.lost.wait())
    _, left = await asyncio.wait((greeted, lost), timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for waiter in left:
        waiter.cancel()
    if link.refusal is not None:
        raise Refused(link.refusal)
    if link.identity is None:
        link.leave()
        raise TimeoutError(NO_GREETING)
    return link
