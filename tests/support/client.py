"""A raw client of the worker protocol: whatever JSON a test wants to send, over a real socket."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

Message = dict[str, Any]
WAIT_S = 30.0
"""Seconds for what is bounded by the load of the machine alone: it ends tests that would wait for ever."""


class RawClient:
    """One connection. Messages wait in `inbox` unless they answer a call or go to a function."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.inbox: list[Message] = []
        self._functions: dict[str, Callable[[Any], Any]] = {}
        self._calls: dict[str, asyncio.Future[Message]] = {}
        self._arrived = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def send(self, message: Message | str | bytes) -> None:
        """Send a message; text and bytes go out as they are."""
        await self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def call(
        self, function_id: str, data: Any = None, *, timeout: float = WAIT_S, **fields: Any
    ) -> Message:
        """Invoke a function and wait for its whole `invocationresult`; `fields` go into the frame."""
        invocation_id = fields.pop("invocation_id", None) or str(uuid.uuid4())
        answer = self._calls[invocation_id] = asyncio.get_running_loop().create_future()
        frame = {"type": "invokefunction", "invocation_id": invocation_id, "function_id": function_id}
        await self.send({**frame, "data": data, **fields})
        try:
            return await asyncio.wait_for(answer, timeout)
        finally:
            self._calls.pop(invocation_id, None)

    async def result(self, function_id: str, data: Any = None, **fields: Any) -> Any:
        """Invoke a function; its `result`, and an AssertionError when it answers with an error."""
        answer = await self.call(function_id, data, **fields)
        assert "error" not in answer, answer["error"]
        return answer.get("result")

    async def code(self, function_id: str, data: Any = None, **fields: Any) -> str:
        """Invoke a function that must fail; the code of its error."""
        answer = await self.call(function_id, data, **fields)
        assert "error" in answer, answer
        return str(answer["error"]["code"])

    async def register(self, function_id: str, function: Callable[[Any], Any] | None = None) -> None:
        """Register a function; `function` answers its calls, without one they wait in `inbox`."""
        if function is not None:
            self._functions[function_id] = function
        await self.send({"type": "registerfunction", "id": function_id})

    async def hello(self, **fields: Any) -> None:
        """Say who it is (`engine::workers::register`), which ends the grace of its registrations."""
        await self.result("engine::workers::register", {"runtime": "raw", **fields})

    async def wait_for(self, kind: str, *, timeout: float = WAIT_S, **fields: Any) -> Message:
        """Take the first message of that type and those fields out of `inbox`, waiting for it."""

        def match(message: Message) -> bool:
            return message.get("type") == kind and all(message.get(k) == v for k, v in fields.items())

        async with asyncio.timeout(timeout):
            while True:
                self._arrived.clear()
                for message in self.inbox:
                    if match(message):
                        self.inbox.remove(message)
                        return message
                await self._arrived.wait()

    async def closed(self, *, timeout: float = WAIT_S) -> int | None:
        """Wait until the host closes; the close code, None for a broken connection."""
        await asyncio.wait_for(self.socket.wait_closed(), timeout)
        return self.socket.close_code

    async def close(self) -> None:
        """Close the connection."""
        await self.socket.close()
        self._reader.cancel()

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                await self._take(json.loads(text))
        except websockets.ConnectionClosed:
            pass

    async def _take(self, message: Message) -> None:
        if message.get("type") == "invocationresult" and message.get("invocation_id") in self._calls:
            answer = self._calls[message["invocation_id"]]
            if not answer.done():
                answer.set_result(message)
            return
        function = self._functions.get(message.get("function_id", ""))
        if message.get("type") == "invokefunction" and function is not None:
            await self._answer(message, function)
            return
        self.inbox.append(message)
        self._arrived.set()

    async def _answer(self, message: Message, function: Callable[[Any], Any]) -> None:
        frame = {
            "type": "invocationresult",
            "invocation_id": message["invocation_id"],
            "function_id": message["function_id"],
        }
        try:
            result = function(message.get("data"))
            if asyncio.iscoroutine(result):
                result = await result
        except Exception as error:
            await self.send({**frame, "error": {"code": "invocation_failed", "message": str(error)}})
            return
        await self.send({**frame, "result": result})


@asynccontextmanager
async def raw_client(url: str, *, hello: bool = True, **options: Any) -> AsyncIterator[RawClient]:
    """A connected client; `hello=False` leaves out `engine::workers::register`; `options` of websockets."""
    async with websockets.connect(url, max_size=None, **options) as socket:
        client = RawClient(socket)
        try:
            if hello:
                await client.hello()
            yield client
        finally:
            await client.close()
