"""Every block of README.md is run, as a newcomer would run it; ports are moved out of the way."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.host import free_port, running_host
from support.markdown import Block, blocks, headings, links
from support.sdk import python_sdk
from support.tree import ROOT

README = ROOT / "README.md"
ALL = {f"{block.language} {block.directive}": block for block in blocks(README)}
KNOWN = {
    "bash scripts",
    "mermaid ",
    "bash session",
    "python program",
    "text output",
    "bash state",
    "text state",
    "bash attach",
    "bash adapter",
    "bash doctor",
    "python test",
    "ts test",
    "rust test",
    "text diagnosis",
}
BIN = Path(sys.executable).parent


def test_every_block_has_a_test() -> None:
    assert set(ALL) == KNOWN
    assert len(blocks(README)) == len(KNOWN)


def test_the_opening_is_two_sentences_and_the_two_commands() -> None:
    opening = README.read_text().split("\n\n")[1].replace("\n", " ")
    assert 2 <= len(re.findall(r"\.(?: |$)", opening)) <= 3
    commands = [line.split("#")[0].strip() for line in ALL["bash scripts"].text.splitlines()]
    assert commands == ["scripts/demo", "scripts/test"]
    assert all(os.access(ROOT / command, os.X_OK) for command in commands)


FOR_PEOPLE = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"]


@pytest.mark.parametrize(
    "name", [*FOR_PEOPLE, *(f"clients/{client}/README.md" for client in ("node", "rust"))]
)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in links(page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target.read_text()), link


@pytest.mark.timeout(600)  # it installs what it needs
def test_the_demo_ends_by_itself_with_nothing_lost() -> None:
    demo = subprocess.run(
        [ROOT / "scripts" / "demo"], capture_output=True, text=True, timeout=500, check=False
    )
    assert demo.returncode == 0, demo.stdout[-2000:] + demo.stderr[-2000:]
    assert "Every acknowledged write survived." in demo.stdout


def test_the_program_prints_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(ALL["python program"].text)
    run = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == sorted(ALL["text output"].text.splitlines())


def test_state_looks_as_the_page_shows(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        run = subprocess.run(
            ["bash", "-c", "set -euo pipefail\n" + ALL["bash state"].text],
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "III_URL": host.ws},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ALL["text state"].text


def test_the_test_of_a_worker_passes(tmp_path: Path) -> None:
    worker = next(block for block in blocks(ROOT / "SKILL.md") if block.directive == "worker")
    (tmp_path / "worker.py").write_text(worker.text)
    (tmp_path / "test_worker.py").write_text(ALL["python test"].text)
    packages = next(python_sdk("0.25.0").parents[1].glob("lib/python*/site-packages"))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout


@contextmanager
def shell(block: Block, directory: Path, *more: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Bash that runs the block in a directory, with free ports in place of the default ones."""
    text = block.text
    ports = {name: str(free_port()) for name in ("49134", "3111")}
    for name, port in ports.items():
        text = text.replace(name, port)
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "III_URL": f"ws://127.0.0.1:{ports['49134']}",
        "OTEL_ENABLED": "false",
        **env,
    }
    script = "\n".join(["set -euo pipefail", text, *more])
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[bytes], *wanted: str, seconds: float = 100) -> str:
    """What it printed until all of `wanted` were in it."""
    assert process.stdout is not None
    text, deadline = "", time.monotonic() + seconds
    while not all(part in text for part in wanted):
        left = deadline - time.monotonic()
        assert left > 0, text
        if select.select([process.stdout], [], [], left)[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, f"it ended with {process.wait(20)}: {text}"
            text += piece.decode()
    return text


@pytest.mark.timeout(600)  # it installs twice, as slowly as the machine and the network are
def test_the_first_session_works(tmp_path: Path) -> None:
    """A copy of what git knows, a fresh environment, and the commands of the page."""
    files = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "iii_skill",
            "plugins",
            "templates",
            "pyproject.toml",
            "README.md",
            "LICENSE",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in files.strip("\0").split("\0"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    with shell(ALL["bash session"], tmp_path, "echo; echo SESSION DONE; sleep 100") as process:
        text = read_until(process, "SESSION DONE", seconds=500)
    assert '"name":"Oak chair"' in text


def test_attach_serves_state(tmp_path: Path) -> None:
    with shell(ALL["bash attach"], tmp_path) as process:
        text = read_until(process, "no state", "iii-skill serves state::*")
    assert str(tmp_path / "state") in text


@pytest.mark.timeout(600)  # it installs twice, as slowly as the machine and the network are
def test_an_adapter_author_gets_to_a_tested_adapter(tmp_path: Path) -> None:
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, ROOT], check=True)
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with shell(ALL["bash adapter"], tmp_path, "echo ADAPTER DONE; sleep 100", PATH=path) as process:
        text = read_until(process, "ADAPTER DONE", seconds=500)
    assert " passed" in text
    assert "my-store: durability disk" in text
    test_file = tmp_path / "my-store" / "tests" / "test_adapter.py"
    assert f"{len(test_file.read_text().splitlines())} lines of test file" in ALL["bash adapter"].text
