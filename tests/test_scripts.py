"""The scripts of the repository say what is missing, and cost nothing when nothing is to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tree import ROOT

SCRIPTS = ["bench", "bootstrap", "check", "demo", "sdk-suites", "test"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_run_and_opens_with_what_it_does(name: str) -> None:
    path = ROOT / "scripts" / name
    lines = path.read_text("utf-8").splitlines()
    assert os.access(path, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines


def test_bootstrap_does_and_says_nothing_when_nothing_is_to_do() -> None:
    done = subprocess.run([ROOT / "scripts" / "bootstrap"], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_the_test_script_names_every_missing_tool_and_how_to_get_it(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "id", "redis-server"):
        found = shutil.which(name)
        assert found is not None, name
        (tools / name).symlink_to(found)
    env = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run(
        [tools / "bash", ROOT / "scripts" / "test"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    missing = [line.split(" is missing: install ")[0] for line in done.stderr.splitlines()]
    assert missing == ["[test] chromium", "[test] node", "[test] npm", "[test] cargo", "[test] git"]


RERUNS = "--reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks"


def test_continuous_integration_runs_the_test_script() -> None:
    run = (ROOT / ".ci" / "run").read_text("utf-8")
    assert run.splitlines()[-1] == f'exec scripts/test {RERUNS} "$@"'
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_what_fails_once_in_continuous_integration_is_shown_and_what_fails_twice_is_a_failure(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_it.py").write_text(
        "runs = []\n"
        "def test_once():\n    runs.append(1)\n    assert len(runs) > 1, 'the first run'\n"
        "def test_twice():\n    assert not 'right'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", *RERUNS.split(), "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AssertionError: the first run" in done.stdout
    assert "FAILED test_it.py::test_twice" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 failed, 1 passed, 2 rerun in ")
    assert done.returncode == 1
