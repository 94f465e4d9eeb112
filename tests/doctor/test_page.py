"""The commands of the pages, as they stand there, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doctor.place import Place
from support.host import free_port
from support.markdown import Block, blocks
from support.tree import ROOT

PAGES = (ROOT / "README.md", ROOT / "references" / "doctor.md")


def block_of(page: Path, directive: str) -> Block:
    """The one block of a page with this directive."""
    (found,) = (block for block in blocks(page) if block.directive == directive)
    return found


def run(place: Place, script: str) -> subprocess.CompletedProcess[str]:
    """Bash, with our command first on PATH and the ports out of the way."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("III_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ports = {
        "III_SKILL_DOCTOR_PORT": str(place.asked["port"]),
        "III_SKILL_DOCTOR_HTTP_PORT": str(place.asked["http_port"]),
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=place.cwd,
        env={**kept, **ports, "HOME": str(place.home), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_readme_shows_a_diagnosis_as_it_is(place: Place) -> None:
    port = str(free_port())
    done = run(place, block_of(PAGES[0], "doctor").text.replace("4913", port))
    shown = block_of(PAGES[0], "diagnosis").text.replace("4913", port)
    assert _counts_aside(done.stdout) == _counts_aside(shown), done.stderr
    assert done.returncode == 1


def _counts_aside(text: str) -> str:
    """How many checks there are for a set-up depends on the machine."""
    head, separator, last = text.rstrip("\n").rpartition("\n")
    return head + separator + re.sub(r"\d+", "N", last)


@pytest.mark.parametrize("number", range(3))
def test_the_commands_of_the_page_run(number: int, place: Place) -> None:
    lines = block_of(PAGES[1], "doctor").text.splitlines()
    assert len(lines) == 3
    done = run(place, lines[number])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_page_names_no_check_that_there_is_not() -> None:
    from iii_skill.doctor.examine import CHECKS

    groups = {check.id.partition(".")[0] for check in CHECKS}
    named = set(re.findall(r"`([a-z]+\.[a-z]+)`", PAGES[1].read_text()))
    named = {name for name in named if name.partition(".")[0] in groups}
    assert named == {check.id for check in CHECKS}
