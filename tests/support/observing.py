"""An engine with observers, and workers of it without sockets."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.peers import Peer, turns

from iii_skill.engine.engine import Engine
from iii_skill.introspection.functions import add_engine_functions
from iii_skill.json_schema import SchemaChecker
from iii_skill.observers.messages import ObserverMessages
from iii_skill.observers.table import GRACE_S, Observers

V1 = ["observe.v1", "local-dispatch.v1", "large-messages.v1"]
V2 = [*V1, "observe.v2"]
OLD: list[str] = []


class Party(Peer):
    """A worker that knows of observers; `features=OLD` makes it one that does not."""

    def __init__(
        self, engine: Engine, name: str = "party", *, features: list[str] = V2, **identity: Any
    ) -> None:
        super().__init__(engine, name=name, features=features, **identity)
        self._inbox: list[dict[str, Any]] = []

    def observe(self, source: str, target: str, *, id: str | None = None, **fields: Any) -> str:
        """Ask for an observer; its id. What belongs into `source` is put there."""
        inner = ("args", "filters", "capture", "on", "deliver")
        of_source = {name: fields.pop(name) for name in inner if name in fields}
        namespaces = {name: fields.pop(f"{name}_namespace", None) for name in ("source", "target")}
        observer_id = str(uuid.uuid4()) if id is None else id
        self.send(
            {
                "type": "observe",
                "id": observer_id,
                "source": {"function_id": source, "namespace": namespaces["source"], **of_source},
                "target": {"function_id": target, "namespace": namespaces["target"]},
                **fields,
            }
        )
        return observer_id

    def unobserve(self, observer_id: str) -> None:
        """End one."""
        self.send({"type": "unobserve", "id": observer_id})

    def take(self, *kinds: str) -> list[dict[str, Any]]:
        """The messages of these kinds that came since they were last taken; the others stay."""
        self._inbox += self.received()
        taken = [message for message in self._inbox if message["type"] in kinds]
        self._inbox = [message for message in self._inbox if message["type"] not in kinds]
        return taken

    def states(self) -> list[tuple[str, str | None]]:
        """The states of observers that it was told of, with the codes of their reasons."""
        told = self.take("observeresult", "observerstatechanged")
        return [(m["state"], (m.get("error") or m.get("reason") or {}).get("code")) for m in told]

    def calls(self) -> list[dict[str, Any]]:
        """The calls that it got."""
        return self.take("invokefunction")

    def ack(self, *, refuse: str | None = None) -> list[str]:
        """Take, or refuse, every observer that it was told of; their ids."""
        told = []
        for message in self.take("functionregistered", "observeradded"):
            views = message["observers"] if "observers" in message else [message["observer"]]
            function_id = message.get("id") if "observers" in message else message["function_id"]
            for view in views:
                told.append(view["id"])
                ack = {
                    "type": "observerack",
                    "function_id": function_id,
                    "namespace": message["namespace"],
                    "id": view["id"],
                    "revision": message["revision"],
                }
                if refuse is not None:
                    ack["error"] = {"code": refuse, "message": "no"}
                self.send(ack)
        return told

    def report(self, function_id: str, matched: list[str], **fields: Any) -> None:
        """Tell of a call that it made to itself."""
        self.send({"type": "invocationsobserved", "items": [item(function_id, matched, **fields)]})

    def shown(self, observer_id: str) -> dict[str, Any]:
        """What introspection says of an observer."""
        self._inbox += self.received()
        answer = self.ask("engine::observers::get", {"id": observer_id})
        found: dict[str, Any] = answer["result"]["observer"] if "result" in answer else answer["error"]
        return found


def item(function_id: str, matched: list[str], **fields: Any) -> dict[str, Any]:
    """One item of a report."""
    return {
        "function_id": function_id,
        "namespace": "default",
        "invocation_id": str(uuid.uuid4()),
        "matched": matched,
        "status": "success",
        "started_at_ms": 1,
        "duration_ms": 0.5,
        "observe_depth": 0,
        **fields,
    }


class Observing:
    """The engine, its observers, and a short way to make parties."""

    def __init__(self, engine: Engine, observers: Observers) -> None:
        self.engine = engine
        self.observers = observers

    def party(self, name: str = "party", **settings: Any) -> Party:
        """A worker that has read what it was greeted with."""
        party = Party(self.engine, name, **settings)
        party.received()
        return party

    async def until(self, condition: Any) -> None:
        """Wait for something of this process."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def observing(*, grace_s: float = GRACE_S, handler_timeout_s: float = 30.0) -> AsyncIterator[Observing]:
    """An engine without sockets, with everything about observers."""
    engine = Engine(handler_timeout_s=handler_timeout_s)
    observers = Observers(engine, grace_s=grace_s)
    add_engine_functions(engine, observers)
    checker = SchemaChecker()
    messages = ObserverMessages(engine, observers, checker)
    try:
        yield Observing(engine, observers)
    finally:
        await messages.close()
        await checker.close()
        engine.close()
        observers.close()


def data(message: dict[str, Any]) -> Any:
    """The payload of a call."""
    return message["data"]


def text(value: Any) -> bytes:
    """Encoded JSON."""
    return json.dumps(value).encode()


__all__ = ["OLD", "V1", "V2", "Observing", "Party", "data", "item", "observing", "turns"]
