"""Play recorded cases against a StateWorker in this process, without a socket or an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from conformance.recorded import Answer, Case, expand, map_text, project, shrink
from iii_state_memory import MemoryAdapter

from iii_skill.calls import Handler, Result
from iii_skill.configuration.entries import Configurations
from iii_skill.configuration.state_entry import ON_CONFIG_CHANGE, on_config_change, state_entry
from iii_skill.errors import IiiSkillError
from iii_skill.state.settings import LiveSettings
from iii_skill.state.worker import StateWorker


@dataclass
class DirectCall:
    """An invocation whose answer is a future."""

    data: bytes
    caller_id: str | None = "worker-1"
    levels: int = 0
    chain: int = 0
    traceparent: str | None = None
    outline: None = None
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def reply(self, outcome: Result) -> None:
        """A result with more to it than its value."""
        self.succeed(outcome.value)

    def succeed(self, value: bytes | None) -> None:
        """The answer, decoded strictly."""
        self.answer.set_result({"result_absent": True} if value is None else {"result": json.loads(value)})

    def fail(self, error: IiiSkillError) -> None:
        """The error as it goes on the wire."""
        self.answer.set_result({"error": {"code": error.code, "message": error.message}})


@asynccontextmanager
async def functions_of(settings: LiveSettings) -> AsyncIterator[Mapping[str, Handler]]:
    """The functions of a state worker over the memory adapter, and those of its configuration."""
    worker = StateWorker(MemoryAdapter(), settings=settings, publish=lambda change: None, listeners=())
    configurations = Configurations(lambda event: None)
    configurations.add(state_entry(settings))
    yield {
        **worker.functions,
        **configurations.functions,
        ON_CONFIG_CHANGE.id: on_config_change,
    }
    await configurations.close()


def plays_directly(case: Case, functions: Mapping[str, Handler]) -> bool:
    """True for cases that need neither triggers nor the engine nor raw frames."""
    return not case.functions and all(
        "sleep_ms" in step
        or (step.get("function_id") in functions and not step.keys() & {"action", "namespace"})
        for step in case.steps
    )


async def ask(functions: Mapping[str, Handler], function_id: str, payload: Any) -> Answer:
    """Call a function and wait for its answer."""
    call = DirectCall(json.dumps(payload).encode())
    functions[function_id](call)
    return await asyncio.wait_for(call.answer, 30)


async def play(case: Case, functions: Mapping[str, Handler], scope: str) -> list[Answer]:
    """The answers to the steps of a case, in the form of the recording."""
    return [await _step(step, functions, scope) for step in case.steps]


async def _step(step: Mapping[str, Any], functions: Mapping[str, Handler], scope: str) -> Answer:
    if "sleep_ms" in step:
        return {"done": True}
    payload = expand(step.get("payload"), lambda text: text.replace("{scope}", scope))
    answer = await ask(functions, step["function_id"], payload)
    if "result" in answer:
        answer["result"] = project(step, answer["result"], scope)
    answer = map_text(answer, lambda text: text.replace(scope, "{scope}"))
    if "result" in answer:
        answer["result"] = shrink(answer["result"])
    return answer
