"""The tests of a generated project end, and leave nothing running, when its worker does not start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TypeAlias

import pytest
from support.projects import HOST, node_modules, python_tools, run, write_project
from support.scaffold import LANGUAGES, covering
from support.sdk import BUILD_SECONDS, CACHE, cargo_environment, cargo_lock, tool, untimed

Tests: TypeAlias = Callable[[str], str]


def broken(language: str, directory: Path) -> list[str]:
    """A default project whose worker ends at once, and the command that runs its tests."""
    write_project(language, covering()[0], directory)
    if language == "python":
        worker = directory / "sample_worker.py"
        text = worker.read_text()
        assert text.endswith("    main()\n")
        worker.write_text(text.removesuffix("main()\n") + 'raise SystemExit("broken on purpose")\n')
        return [str(python_tools() / "python"), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    (directory / "node_modules").symlink_to(node_modules("javascript"))
    (directory / "worker.js").write_text('throw new Error("broken on purpose");\n')
    return [tool("node"), "--test", "tests/worker.test.js"]


@pytest.mark.parametrize(
    ("language", "reason"),
    [("python", "broken on purpose"), ("javascript", "broken on purpose")],
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


def test_python_without_the_plugin_says_one_sentence(tmp_path: Path) -> None:
    write_project("python", covering()[0], tmp_path)
    command = [str(python_tools() / "python"), "-m", "pytest", "-p", "no:iii_skill"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert done.returncode != 0
    assert (done.stdout + done.stderr).strip() == "ERROR: Missing required plugins: iii-skill"


@pytest.fixture(scope="module", params=[language for language in LANGUAGES if language != "python"])
def tests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tests]:
    """Runs the tests of a default project with a value of III_SKILL, and gives what they say."""
    language = request.param
    with cargo_lock() if language == "rust" else nullcontext():
        place = CACHE / "project-rust" if language == "rust" else tmp_path_factory.mktemp(language)
        shutil.rmtree(place, ignore_errors=True)
        command, environment = built(language, write_project(language, covering()[0], place))

        def say(value: str) -> str:
            done = subprocess.run(
                command,
                cwd=place,
                env={**os.environ, **environment, "RUST_BACKTRACE": "0", "III_SKILL": value},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=90,
            )
            assert done.returncode != 0
            return done.stdout

        yield say


def built(language: str, project: Path) -> tuple[list[str], Mapping[str, str]]:
    """The command that runs the tests of a project, and its environment, after everything else is done."""
    if language == "rust":
        build = [tool("cargo"), "test", "--quiet", "--no-run"]
        with untimed():
            run(build, project, cargo_environment(), seconds=BUILD_SECONDS)
        return [tool("cargo"), "test", "--quiet"], cargo_environment()
    modules = node_modules(language)
    (project / "node_modules").symlink_to(modules)
    if language == "javascript":
        return [tool("node"), "--test", "tests/worker.test.js"], {}
    run([tool("node"), str(modules / "typescript" / "bin" / "tsc")], project)
    return [tool("node"), "--test", "dist/tests/worker.test.js"], {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["/no/such/program", "false", "python3 -m no_such_module"])
def test_without_a_host_the_tests_say_one_sentence(command: str, tests: Tests) -> None:
    said = tests(command)
    sentence = r"No host started( \(.+\))?: install iii-skill, or set III_SKILL to its command\."
    assert len(re.findall(sentence, said)) == 1, said
    for noise in ("Traceback", "Unhandled", "Cannot read properties", "Os {", "unwrap"):
        assert noise not in said


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{}", []),
        ("'{}'", []),
        ('"{}" -m "a module"  it\'s own\'', ["-m", "a module", "its own"]),
        ("sh '{}' --name='of two' last", ["--name=of two", "last"]),
    ],
    ids=["a file", "a file in quotes", "words in quotes", "a program before it"],
)
def test_the_program_may_have_blanks_in_its_path(
    value: str, words: list[str], tests: Tests, tmp_path: Path
) -> None:
    program, record = tmp_path / "a place" / "iii skill", tmp_path / "record"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{record}'\nexit 1\n")
    program.chmod(0o755)
    tests(value.format(program))
    given = record.read_text().splitlines()
    assert given[: len(words) + 1] == [*words, "serve"]


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
