"""Routes and reactions of a produced worker by observers: the option `api`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.projects import prove, run, write_project
from support.scaffold import covering, with_companions
from support.sdk import tool

FOLLOWS = {"total", "pubsub", "cron", "stream"}
RUFF = Path(sys.executable).with_name("ruff")


@pytest.mark.timeout(600)
def test_a_python_worker_by_observers_runs(tmp_path: Path) -> None:
    combination = {**with_companions()[0], "operations": covering()[0]["operations"], "api": "observers"}
    prove("python", combination, tmp_path / "project", own_host=True)


def test_python_by_observers_needs_no_formatter_and_no_trigger(tmp_path: Path) -> None:
    for number, combination in enumerate((*covering(), *with_companions())):
        project = write_project("python", {**combination, "api": "observers"}, tmp_path / f"p{number}")
        text = (project / "sample_worker.py").read_text()
        assert "register_trigger" not in text
        parts = {*combination.get("with", ()), *combination["operations"]}
        observes = combination["http"] or combination["trigger"] or FOLLOWS & parts
        assert ("iii.observe" in text) is bool(observes)
    run([str(RUFF), "format", "--check", "--quiet", "."], tmp_path)
    run([str(RUFF), "check", "--quiet", "."], tmp_path)


@pytest.mark.timeout(900)
def test_a_rust_worker_of_the_next_sdk_runs(tmp_path: Path) -> None:
    combination = {**with_companions()[0], "operations": covering()[0]["operations"], "api": "observers"}
    prove("rust", combination, tmp_path / "project", own_host=True)


def test_rust_by_observers_needs_no_formatter_and_no_trigger(tmp_path: Path) -> None:
    for number, combination in enumerate((*covering(), *with_companions())):
        project = write_project("rust", {**combination, "api": "observers"}, tmp_path / f"p{number}")
        files = [project / "src" / "main.rs", project / "tests" / "worker.rs"]
        assert not any("trigger(" in file.read_text() for file in files)
        run(
            [
                tool("rustfmt"),
                "--check",
                "--edition",
                "2024",
                "--config-path",
                str(project),
                *map(str, files),
            ],
            project,
        )
