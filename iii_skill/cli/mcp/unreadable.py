"""ReadableMessages: the messages of a client; the library is silent about what it cannot read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError

_MOST = 16 * 1024 * 1024
"""Characters of a line in which the id of a request is looked for."""


class ReadableMessages:
    """A stream of messages without those that cannot be read: who waits for an answer to one is refused."""

    def __init__(self, messages: Any, answers: Any) -> None:
        self._messages = messages
        self._answers = answers

    @property
    def last_context(self) -> Any:
        """The context in which the last message was sent."""
        return self._messages.last_context

    async def receive(self) -> SessionMessage:
        """The next message that can be read."""
        return await self._readable(self._messages.receive)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        return await self._readable(self._messages.__anext__)

    async def _readable(
        self, following: Callable[[], Awaitable[SessionMessage | Exception]]
    ) -> SessionMessage:
        while True:
            found = await following()
            if isinstance(found, SessionMessage):
                return found
            if isinstance(found, Exception) and (answer := refusal(found)) is not None:
                await self._answers.send(SessionMessage(answer))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """No more messages are read."""
        await self._messages.aclose()


def refusal(error: Exception) -> JSONRPCError | None:
    """The answer to a request that could not be read; None for no request, or without an id to tell."""
    errors = getattr(error, "errors", None)
    for one in errors(include_url=False) if callable(errors) else ():
        given, code, why = one.get("input"), INVALID_REQUEST, one["msg"]
        if one["type"] == "json_invalid":
            given, code = _decoded(given), PARSE_ERROR
            if _has_half_a_character(given):
                why = "a text in it holds half of a character (a lone surrogate)"
        if isinstance(given, dict) and "method" in given and _can_be_told(given.get("id")):
            text = f"This request cannot be read: {why}."
            return JSONRPCError(jsonrpc="2.0", id=given["id"], error=ErrorData(code=code, message=text))
    return None


def _decoded(line: Any) -> Any:
    """What Python reads in a line that the library refuses."""
    try:
        return json.loads(line) if len(line) <= _MOST else None
    except (ValueError, RecursionError):
        return None


def _has_half_a_character(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _can_be_told(key: Any) -> bool:
    return type(key) is int or (type(key) is str and key.isprintable())
