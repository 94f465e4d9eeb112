"""Wire: a connection to an engine that runs elsewhere, as a worker with functions of the test."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from iii_skill import __version__
from iii_skill.calls import Call, Failure, Handler, Outcome, result_of
from iii_skill.engine.ids import fresh_id
from iii_skill.engine_link import UNREACHED, FunctionName, Link, connect
from iii_skill.errors import ConfigurationError, InvocationError
from iii_skill.protocol import client
from iii_skill.protocol.messages import ErrorBody
from iii_skill.protocol.outgoing import InvocationReply, ObserverView, WithdrawTrigger

CONNECT_SECONDS = 10.0

_encode = msgspec.json.encode


class Wire:
    """Opened on a loop; its methods are used there."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.url = url
        self._token = token
        self._link: Link | None = None
        self._handlers: dict[str, Handler] = {}

    async def open(self, name: str) -> None:
        """Connect as a worker of that name; ConfigurationError says why it cannot."""
        try:
            link = await asyncio.wait_for(connect(self, token=self._token), CONNECT_SECONDS)
        except TimeoutError:
            raise ConfigurationError(f"No iii engine answers at {self.url}.") from None
        except socket.gaierror as error:
            raise ConfigurationError(f"No iii engine at {self.url}: {error.strerror}.") from None
        except UNREACHED as error:
            raise ConfigurationError(f"No iii engine answers at {self.url}: {error}.") from None
        link.send(client.identify(name, __version__, []))
        self._link = link

    async def close(self) -> None:
        """Leave."""
        link, self._link = self._link, None
        if link is not None:
            link.leave()
            await asyncio.wait([asyncio.ensure_future(link.lost.wait())], timeout=1.0)

    async def call(self, function_id: str, payload: bytes, within: float) -> bytes | None:
        """The encoded result of a function; raises InvocationError."""
        link = self._open_link()
        try:
            return result_of(await link.outcome(function_id, payload, namespace=None, timeout=within))
        except TimeoutError:
            text = f"Invocation of '{function_id}' timed out after {within:g} s."
            raise InvocationError(text, code="TIMEOUT") from None

    def register_function(self, function_id: str, handler: Handler) -> None:
        """Offer a function."""
        self._handlers[function_id] = handler
        self._open_link().send(_encode({"type": "registerfunction", "id": function_id}))

    def register_trigger(self, trigger_type: str, function_id: str, config: Any) -> None:
        """Call a function when `trigger_type` fires."""
        trigger = {"id": fresh_id(), "trigger_type": trigger_type, "function_id": function_id}
        self._open_link().send(_encode({"type": "registertrigger", **trigger, "config": config}))

    def _open_link(self) -> Link:
        if self._link is None:
            raise RuntimeError("the engine is not connected: use it inside the test")
        return self._link

    # What the link hands over.

    def called(self, link: Link, message: client.Invoked) -> None:
        """The engine calls one of our functions."""

        def reply(outcome: Outcome) -> None:
            value, error = None, None
            if isinstance(outcome, Failure):
                error = ErrorBody(outcome.code, outcome.message, outcome.stacktrace)
            else:
                value = outcome.value
            result = UNSET if value is None else Raw(value)
            link.send(_encode(InvocationReply(message.invocation_id, message.function_id, result, error)))

        handler = self._handlers.get(message.function_id)
        if handler is None:
            reply(Failure("function_not_found", f"Function {message.function_id} is not served here."))
        else:
            handler(Call(message.function_id, bytes(message.data), reply))

    def delivered(self, link: Link, message: client.TriggerDelivered) -> None:
        """We provide no trigger type."""

    def withdrawn(self, message: WithdrawTrigger) -> None:
        """Nor any trigger of one."""

    def observed(
        self, link: Link, function: FunctionName, revision: int, views: Sequence[ObserverView]
    ) -> None:
        """Nobody observes functions of a test."""

    def unobserved(self, observer_id: str) -> None:
        """Nor stops to."""
