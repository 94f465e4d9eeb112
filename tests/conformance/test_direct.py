"""The recorded cases that need no socket, played against the functions in this process."""

from __future__ import annotations

import pytest
from conformance.differences import BY_DECISION
from conformance.direct import functions_of, play, plays_directly
from conformance.recorded import cases, differences, meta

from iii_skill.state.settings import LiveSettings

pytestmark = pytest.mark.asyncio

FREE = {"weakness", "quirk"}


async def test_the_recording_is_complete() -> None:
    assert len(cases()) == meta()["cases"]


async def test_cases_are_answered_as_the_engine_answers() -> None:
    played = 0
    wrong: dict[str, list[str]] = {}
    async with functions_of(LiveSettings()) as functions:
        for case in cases():
            if case.tags & FREE or case.id in BY_DECISION or not plays_directly(case, functions):
                continue
            played += 1
            answers = await play(case, functions, f"s{played}_")
            found = [
                f"step {index}: {', '.join(difference)}: {got}"
                for index, (step, got) in enumerate(zip(case.steps, answers, strict=True))
                if (difference := differences(step, got))
            ]
            if found:
                wrong[case.id] = found
    assert not wrong
    assert played >= 610
