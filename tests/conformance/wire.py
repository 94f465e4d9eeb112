"""A worker connection that plays recorded cases: calls, served functions, trigger registrations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import websockets
from conformance.recorded import Answer

CALL_SECONDS = 20.0

Message = dict[str, Any]


class Wire:
    """One connection. `calls` holds what the host asked of our functions since it was last cleared."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._pending: dict[str, asyncio.Future[Answer]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self.handlers: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self.refused: dict[str, Mapping[str, Any]] = {}
        self.calls: list[Message] = []

    @property
    def busy(self) -> bool:
        """True while one of our functions is at work."""
        return bool(self._serving)

    async def send(self, message: Message | str) -> None:
        """Send a message, or a text as it is."""
        await self._socket.send(message if isinstance(message, str) else json.dumps(message))

    async def call(self, function_id: str, payload: Any, **more: Any) -> Answer:
        """Call a function and wait for its answer."""
        return await self.answer_to(*self.begin(function_id, payload, **more))

    def begin(self, function_id: str, payload: Any, **more: Any) -> tuple[str, Message]:
        """A call that is not sent yet: its id and message."""
        invocation_id = str(uuid.uuid4())
        message = {
            "type": "invokefunction",
            "invocation_id": invocation_id,
            "function_id": function_id,
            "data": payload,
        }
        return invocation_id, message | more

    async def answer_to(self, invocation_id: str, message: Message | str) -> Answer:
        """Send a call and wait for its answer."""
        future = self.expect(invocation_id)
        await self.send(message)
        return await asyncio.wait_for(future, CALL_SECONDS)

    def expect(self, invocation_id: str) -> asyncio.Future[Answer]:
        """The answer that will come for this id."""
        future = self._pending[invocation_id] = asyncio.get_running_loop().create_future()
        return future

    async def read(self) -> None:
        """Take in messages until the connection ends."""
        async for frame in self._socket:
            self._take(json.loads(frame))

    def _take(self, message: Message) -> None:
        match message["type"]:
            case "invocationresult":
                future = self._pending.pop(message.get("invocation_id"), None)
                if future is not None:
                    future.set_result(_answer(message))
            case "invokefunction":
                task = asyncio.ensure_future(self._serve(message))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
            case "triggerregistrationresult" if message.get("error"):
                self.refused[message["id"]] = message["error"]

    async def _serve(self, message: Message) -> None:
        name, spec = self.handlers[message["function_id"]]
        seen: Message = {"function": name, "payload": message.get("data")}
        if message.get("metadata") is not None:
            seen["metadata"] = message["metadata"]
        self.calls.append(seen)
        for function_id, payload in spec.get("then", ()):
            await self.call(function_id, payload)
        if message.get("invocation_id") is None:
            return
        reply = {
            "type": "invocationresult",
            "invocation_id": message["invocation_id"],
            "function_id": message["function_id"],
        }
        if "error" in spec:
            reply["error"] = spec["error"]
        elif not spec.get("no_result"):
            reply["result"] = spec.get("return")
        await self.send(reply)


def _answer(message: Message) -> Answer:
    if message.get("error") is not None:
        return {"error": {key: text for key, text in message["error"].items() if key != "stacktrace"}}
    return {"result": message["result"]} if "result" in message else {"result_absent": True}


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Wire]:
    """A connection that has introduced itself as a worker."""
    async with websockets.connect(url, max_size=None, ping_interval=None, compression=None) as socket:
        wire = Wire(socket)
        reading = asyncio.ensure_future(wire.read())
        try:
            name = f"conformance-{uuid.uuid4().hex[:8]}"
            about = {"runtime": "python", "version": "0", "name": name, "namespace": "default"}
            await wire.call("engine::workers::register", about)
            yield wire
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
