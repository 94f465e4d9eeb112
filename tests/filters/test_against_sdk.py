"""The filter language agrees with the filters of a published SDK: what is accepted, and what matches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.filter_cases import Case, cases
from support.sdk import python_sdk

from iii_skill.filters.errors import InvalidFilter
from iii_skill.filters.filter import Filter

FEW, ALL = 600, 30_000


def verdicts(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the SDK says about each line."""
    done = subprocess.run(
        [python_sdk("0.25.0"), str(Path(__file__).with_name("sdk_filters.py"))],
        input=b"\n".join(map(msgspec.json.encode, lines)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


def own(case: Case, *, written: bool = True) -> tuple[dict[str, Any], Any]:
    """What ours says, in the same form, and the normal form."""
    try:
        compiled = Filter(case.filter, written=written)
    except InvalidFilter:
        return {"refused": True}, None
    matches = [compiled.matches(document) for document in case.documents]
    return {"matches": matches, "roots": sorted(compiled.roots)}, compiled.normal


@pytest.mark.timeout(400)
def test_random_filters_are_accepted_and_match_as_in_the_sdk() -> None:
    made = list(cases(ALL if os.environ.get("III_SKILL_TEST_ALL") else FEW))
    # As a worker's frame brings them: decoded from JSON.
    made = [msgspec.json.decode(msgspec.json.encode(case), type=Case) for case in made]
    theirs = verdicts([{"filter": case.filter, "documents": case.documents} for case in made])
    accepted, normal = 0, []
    for case, verdict in zip(made, theirs, strict=True):
        ours, form = own(case)
        if "refused" in verdict:
            assert ours == {"refused": True}, (case.filter, verdict)
        else:
            assert ours == verdict, case
            accepted += 1
            normal.append((case, form, verdict))
    assert len(made) * 0.5 < accepted < len(made) * 0.95, "most filters are good, and enough are not"
    # The normal form means the same to the SDK, and to us.
    forms = [{"filter": form, "trusted": True, "documents": case.documents} for case, form, _ in normal]
    for (case, form, verdict), again in zip(normal, verdicts(forms), strict=True):
        assert again == verdict, (case.filter, form)
        ours, same = own(Case(form, case.documents), written=False)
        assert ours == verdict
        assert same == form, "the normal form of a normal form is itself"
