"""Call a handler of the state worker and look at its answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from iii_skill.calls import Result
from iii_skill.errors import IiiSkillError, InvocationError
from iii_skill.state.settings import LiveSettings, StateSettings
from iii_skill.state.worker import StateWorker
from iii_skill.values import Change

FENCE = "fence"
WAIT_S = 60.0
"""For an answer; how long it takes, the machine's load alone decides."""
_marks = itertools.count()

NOTHING = "no result"
"""Stands for an answer without a result."""


@dataclass
class OneCall:
    """A call that notes in `log` when it is answered."""

    data: bytes
    caller_id: str | None
    log: list[Any]
    levels: int = 0
    chain: int = 0
    traceparent: str | None = None
    outline: None = None
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def reply(self, outcome: Result) -> None:
        """A result with more to it than its value."""
        self.succeed(outcome.value)

    def succeed(self, value: bytes | None) -> None:
        """The encoded answer."""
        self.log.append("answered")
        self.answer.set_result(value)

    def fail(self, error: IiiSkillError) -> None:
        """The error."""
        self.log.append(error.code)
        self.answer.set_exception(InvocationError(error.message, code=error.code))


class Asking:
    """A state worker and everything that it published; `log` also has its answers."""

    def __init__(self, adapter: Any, **settings: Any) -> None:
        self.settings = LiveSettings(StateSettings(**settings))
        self.log: list[Any] = []
        self.worker = StateWorker(
            adapter, settings=self.settings, publish=self.log.append, listeners=["everyone"]
        )

    @property
    def events(self) -> list[Change]:
        """What was published so far."""
        return [entry for entry in self.log if isinstance(entry, Change) and entry.scope != FENCE]

    async def settled(self) -> list[Change]:
        """What was published, once all that was written is told: a later write was."""
        mark = f"fence {next(_marks)}"
        await self("set", {"scope": FENCE, "key": "k", "value": mark})
        value = json.dumps(mark).encode()
        async with asyncio.timeout(WAIT_S):
            while not any(isinstance(entry, Change) and entry.new == value for entry in self.log):
                await asyncio.sleep(0.001)
        return self.events

    def start(self, name: str, payload: Any, *, caller_id: str | None = "w1") -> asyncio.Future[Any]:
        """Call `state::<name>`; the encoded answer comes later."""
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        call = OneCall(data, caller_id, self.log)
        self.worker.functions[f"state::{name}"](call)
        return call.answer

    async def raw(self, name: str, payload: Any, *, caller_id: str | None = "w1") -> bytes | None:
        """The encoded answer; InvocationError with its code."""
        answer = await asyncio.wait_for(self.start(name, payload, caller_id=caller_id), WAIT_S)
        assert answer is None or isinstance(answer, bytes)
        return answer

    async def __call__(self, name: str, payload: Any, *, caller_id: str | None = "w1") -> Any:
        """The decoded answer, NOTHING when there is no result."""
        answer = await self.raw(name, payload, caller_id=caller_id)
        return NOTHING if answer is None else json.loads(answer)
