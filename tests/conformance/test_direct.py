"""The recorded cases that need no socket, played against the state worker in this process."""

from __future__ import annotations

import pytest
from conformance.direct import play, plays_directly
from conformance.recorded import cases, differences, meta
from iii_state_memory import MemoryAdapter

from iii_skill.state.settings import LiveSettings
from iii_skill.state.worker import StateWorker

pytestmark = pytest.mark.asyncio


def new_worker() -> StateWorker:
    return StateWorker(MemoryAdapter(), settings=LiveSettings(), publish=lambda event: None)


async def test_the_recording_is_complete() -> None:
    assert len(cases()) == meta()["cases"]


async def test_untagged_cases_are_answered_as_the_engine_answers() -> None:
    worker = new_worker()
    played = 0
    wrong: dict[str, list[str]] = {}
    for case in cases():
        if case.tags or not plays_directly(case, worker):
            continue
        played += 1
        answers = await play(case, worker, f"s{played}_")
        found = [
            f"step {index}: {', '.join(difference)}: {got}"
            for index, (step, got) in enumerate(zip(case.steps, answers, strict=True))
            if (difference := differences(step, got))
        ]
        if found:
            wrong[case.id] = found
    assert not wrong
    assert played >= 580
