"""The ready checks as a user of them writes them, for the ledger."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from iii_skill.testing.workers import WorkerChecks


class LedgerChecks(WorkerChecks):
    """The worker is given by whoever runs them."""

    empty = {"requests": {}}  # noqa: RUF012 - as users write it

    def act(self, engine: Any, key: str) -> object:
        return self.repeat(engine, key, uuid4().hex)

    def repeat(self, engine: Any, key: str, request: str) -> object:
        return engine.http.post("/add", {"key": key, "request": request}).expect(200)

    def look(self, engine: Any, key: str) -> Any:
        account, names = engine.state.get("accounts", key), engine.state.get("names", key)
        counted = None if account is None else len(account["requests"])
        return {
            "counted": counted,
            "mirrored": engine.state.get("mirror", key),
            "audit": engine.state.get("audit", key),
            "named": names is not None and names["requests"] != "none",
        }

    def read(self, engine: Any, key: str) -> Any:
        reply = engine.http.post("/read", {"key": key})
        assert reply.status < 500, reply.text
        return reply.status, reply.json()

    def place(self, key: str) -> tuple[str, str]:
        return "accounts", key
