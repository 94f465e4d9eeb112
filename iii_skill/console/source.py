"""Source: what answers the calls of a console, the engine of this process or one behind a connection."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from iii_skill.engine.engine import Engine

CALL_S = 30.0
"""Seconds that an answer may take where nothing else is said."""


class ConsoleSource(Protocol):
    """A host or an engine."""

    label: str
    """How the page names it."""

    async def call(
        self,
        function_id: str,
        payload: bytes,
        *,
        namespace: str | None = None,
        timeout: float | None = CALL_S,
    ) -> bytes | None:
        """The encoded result of a function, None for none; raises InvocationError.

        Code `not_connected`: there is no connection now, and one will be made again.
        """


class EngineSource:
    """The engine of this process."""

    def __init__(self, engine: Engine, *, label: str, session_id: str) -> None:
        self.label = label
        self._engine = engine
        self._session_id = session_id
        self._caller = msgspec.json.encode({"worker_id": session_id, "worker_name": "iii-skill-console"})

    async def call(
        self,
        function_id: str,
        payload: bytes,
        *,
        namespace: str | None = None,
        timeout: float | None = CALL_S,
    ) -> bytes | None:
        """The encoded result of a function."""
        return await self._engine.trigger(
            function_id,
            payload,
            namespace=namespace,
            caller_id=self._session_id,
            timeout=timeout,
            caller=self._caller,
        )


def encode(**fields: Any) -> bytes:
    """A payload."""
    return msgspec.json.encode(fields)
