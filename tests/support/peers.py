"""Workers without sockets: protocol connections that a test pumps by hand."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from iii_skill.engine.dispatch import Dispatcher
from iii_skill.engine.engine import Engine
from iii_skill.engine.workers import Worker
from iii_skill.protocol.connection import Connection


class Peer:
    """One worker of an engine: `send` takes what a worker sends, `received` gives what it was sent."""

    def __init__(self, engine: Engine, **identity: Any) -> None:
        self.engine = engine
        self._dispatcher = Dispatcher(engine)
        self.closed: tuple[int, str] | None = None
        self.buffered = 0
        self.connection = Connection()
        self.worker = Worker(
            self.connection,
            wake=lambda _waiting: None,
            close=self._close,
            room=lambda _size, limit: self.buffered <= limit,
            address="127.0.0.1",
        )
        engine.connect(self.worker)
        self.greeting = self.received()[0]
        if identity.pop("identify", True):
            self.call("engine::workers::register", identity, void=True)

    def _close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Hand one text to the host."""
        text = json.dumps(message) if isinstance(message, dict) else message
        raw = text.encode() if isinstance(text, str) else text
        for routed in self.connection.receive_text(raw):
            self._dispatcher.handle(self.worker, routed)

    def release(self) -> None:
        """The grace is over."""
        for routed in self.connection.release():
            self._dispatcher.handle(self.worker, routed)

    def received(self) -> list[dict[str, Any]]:
        """What the host sent since the last look."""
        return [json.loads(text) for text in self.connection.texts_to_send()]

    def call(self, function_id: str, data: Any, *, void: bool = False, **fields: Any) -> str:
        """Send a call; its id."""
        invocation_id = str(uuid.uuid4())
        message = {"type": "invokefunction", "function_id": function_id, "data": data, **fields}
        if void:
            message["action"] = {"type": "void"}
        else:
            message["invocation_id"] = invocation_id
        self.send(message)
        return invocation_id

    def ask(self, function_id: str, data: Any, **fields: Any) -> dict[str, Any]:
        """Send a call that is answered at once; the answer."""
        invocation_id = self.call(function_id, data, **fields)
        answers = [m for m in self.received() if m["type"] == "invocationresult"]
        assert [m["invocation_id"] for m in answers] == [invocation_id], answers
        return answers[0]

    def register(self, function_id: str, **fields: Any) -> None:
        """Offer a function."""
        self.send({"type": "registerfunction", "id": function_id, **fields})

    def bind(self, trigger_type: str, function_id: str, config: Any, **fields: Any) -> str:
        """Register a trigger; its id."""
        trigger_id = fields.pop("id", None) or str(uuid.uuid4())
        self.send(
            {
                "type": "registertrigger",
                "id": trigger_id,
                "trigger_type": trigger_type,
                "function_id": function_id,
                "config": config,
                **fields,
            }
        )
        return trigger_id

    def answer(self, invocation: dict[str, Any], **outcome: Any) -> None:
        """Answer an `invokefunction` with `result=` or `error=`."""
        self.send(
            {
                "type": "invocationresult",
                "invocation_id": invocation["invocation_id"],
                "function_id": invocation["function_id"],
                **outcome,
            }
        )

    def leave(self) -> None:
        """The socket is gone."""
        self.engine.disconnect(self.worker)


def pass_time(seconds: float) -> None:
    """Put the clock of the running loop on by so much: what is due by then comes in one of its next turns."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]


async def turns(count: int = 3) -> None:
    """Let the event loop turn: whatever was scheduled for `soon` has run."""
    for _ in range(count):
        await asyncio.sleep(0)
