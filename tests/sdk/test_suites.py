"""The engine-bound tests that published SDKs ship pass, unmodified, against this host."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from support.sdk import cargo_lock
from support.tree import ROOT

RUST = pytest.mark.skipif(
    not os.environ.get("III_SKILL_TEST_ALL"), reason="builds for minutes: scripts/test --all runs it"
)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("name", "tests"),
    [
        ("python-0.25.0", 61),
        pytest.param("rust-0.25.0", 67, marks=RUST),
        pytest.param("rust-0.26.0-rc.4", 71, marks=RUST),
    ],
)
def test_the_suite_of_an_sdk_passes(name: str, tests: int) -> None:
    with cargo_lock():
        done = subprocess.run(
            [ROOT / "scripts" / "sdk-suites", "--json", name], capture_output=True, text=True, check=False
        )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)[name]
    assert found["failed"] == []
    assert len(found["passed"]) == tests
