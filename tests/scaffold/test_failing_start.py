"""The tests of a generated project end, and leave nothing running, when its worker does not start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.projects import HOST, node_modules, python_tools, write_project
from support.scaffold import covering
from support.sdk import tool


def broken(language: str, directory: Path) -> list[str]:
    """A default project whose worker ends at once, and the command that runs its tests."""
    write_project(language, covering()[0], directory)
    if language == "python":
        worker = directory / "worker.py"
        text = worker.read_text()
        assert text.endswith("    main()\n")
        worker.write_text(text.removesuffix("main()\n") + 'raise SystemExit("broken on purpose")\n')
        return [str(python_tools() / "python"), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    (directory / "node_modules").symlink_to(node_modules("javascript"))
    (directory / "worker.js").write_text('throw new Error("broken on purpose");\n')
    return [tool("node"), "--test", "tests/worker.test.js"]


@pytest.mark.parametrize(
    ("language", "reason"),
    [("python", "it did not happen in time"), ("javascript", "broken on purpose")],
)
def test_a_worker_that_does_not_start_ends_the_tests(language: str, reason: str, tmp_path: Path) -> None:
    command = broken(language, tmp_path / "project")
    mark = f"III_TEST_MARK={tmp_path.name}-{os.getpid()}"
    done = subprocess.run(
        ["env", mark, *command],
        cwd=tmp_path / "project",
        env={**os.environ, **HOST},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    assert not marked(mark)


@pytest.mark.parametrize("command", ["/no/such/program", "false", "python3 -m no_such_module"])
def test_without_a_host_the_tests_say_one_sentence(command: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project("python", covering()[0], project)
    done = subprocess.run(
        [str(python_tools() / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=project,
        env={**os.environ, **HOST, "III_SKILL": command},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 2
    assert "install iii-skill, or set III_SKILL to its command" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout


def test_the_tests_of_a_node_worker_say_the_same(tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_project("javascript", covering()[0], project)
    (project / "node_modules").symlink_to(node_modules("javascript"))
    done = subprocess.run(
        [tool("node"), "--test", "tests/worker.test.js"],
        cwd=project,
        env={**os.environ, **HOST, "III_SKILL": "/no/such/program"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 1
    assert "install iii-skill, or set III_SKILL to its command" in done.stdout
    assert "Unhandled" not in done.stdout + done.stderr


def marked(mark: str) -> list[str]:
    """The processes that were started with the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
