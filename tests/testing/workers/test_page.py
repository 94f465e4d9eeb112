"""The ready checks of references/testing.md, for the worker of SKILL.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.markdown import blocks
from support.sdk import python_sdk
from support.tree import ROOT

from iii_skill.testing.workers import WorkerChecks

PAGE = ROOT / "references" / "testing.md"
SOME = "work_at_once or odd_keys or missing_keys or lost_answer"
"""All of them with III_SKILL_TEST_ALL."""


def test_the_worker_of_the_skill_passes(tmp_path: Path) -> None:
    worker = next(block for block in blocks(ROOT / "SKILL.md") if block.directive == "worker")
    checks = next(block for block in blocks(PAGE) if block.directive == "checks")
    (tmp_path / "worker.py").write_text(worker.text)
    (tmp_path / "test_worker.py").write_text(checks.text)
    packages = next(python_sdk("0.25.0").parents[1].glob("lib/python*/site-packages"))
    chosen = () if os.environ.get("III_SKILL_TEST_ALL") else ("-k", SOME)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:asyncio", *chosen],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed, 1 skipped" in run.stdout or "11 passed, 4 skipped" in run.stdout, run.stdout
    assert "`read(self, engine, key)` is not given" in run.stdout


def test_the_page_lists_every_check() -> None:
    table = PAGE.read_text("utf-8").split("| check |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert {f"test_{name}" for name in listed} == {name for name in dir(WorkerChecks) if "test_" in name}
