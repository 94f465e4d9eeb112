"""The page for adapter authors holds: a newcomer who does what it says has a working, tested adapter."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import redis
from support.markdown import Block, blocks
from support.tree import ROOT, SKILL_NAME, copy_tracked

from iii_skill import errors
from iii_skill.adapter import StateAdapter
from iii_skill.testing.kit import CHECKS, GROUPS
from iii_skill.testing.kit.strings import JOINED, STRINGS, TWINS
from iii_skill.testing.kit.values import VALUES
from iii_skill.values import Durability

PAGE = ROOT / "references" / "adapters.md"
TEXT = PAGE.read_text()
BLOCKS = blocks(PAGE)

pytestmark = pytest.mark.timeout(300)


def environment(**more: str) -> dict[str, str]:
    """The environment without what would lead back into this checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_"))}
    return {**kept, **more}


def bash(script: str, place: Path, **more: str) -> str:
    """Run a script that must end well; what it printed."""
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=place, env=environment(**more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def is_file(block: Block) -> bool:
    return "." in block.directive


def test_every_block_is_a_file_a_script_or_its_output() -> None:
    rules = {("bash", "run"), ("bash", "server"), ("text", "output")}
    assert [str(b) for b in BLOCKS if not is_file(b) and (b.language, b.directive) not in rules] == []


def test_a_newcomer_who_does_what_the_page_says_has_a_tested_adapter(tmp_path: Path) -> None:
    copy_tracked(tmp_path / ".agents" / "skills" / SKILL_NAME)
    place = tmp_path / "iii-state-shelf"
    printed = ""
    for block in BLOCKS:
        if is_file(block) and block.directive != "test_server.py":
            file = place / block.directive
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.directive == "run":
            printed = bash(block.text, place)
        elif block.directive == "output":
            assert [line for line in block.text.splitlines() if line not in printed] == [], printed
    assert (place / "report.json").stat().st_size


def test_the_blocks_on_a_server_run(tmp_path: Path) -> None:
    (server,) = [block for block in BLOCKS if block.directive == "test_server.py"]
    (script,) = [block for block in BLOCKS if block.directive == "server"]
    (tmp_path / server.directive).write_text(server.text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert "0 failed" in bash(script.text, tmp_path, REDIS_URL=redis.shared().url, PATH=path)


def table(heading: str) -> list[str]:
    """The first cells of the table under a heading."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [row.split("|")[1].strip() for row in section.splitlines() if row.startswith("| `")]


def test_every_group_of_checks_is_in_the_table() -> None:
    assert sorted(table("The kit")) == sorted(f"`{group.name}`" for group in GROUPS)


def test_every_check_named_on_the_page_is_there() -> None:
    names = {check.name for check in CHECKS}
    for cell in table("When a check fails"):
        name = cell.strip("`")
        assert any(check == name or check.startswith(name.removesuffix("...")) for check in names), name


def test_the_figures_on_the_page_are_those_of_the_kit() -> None:
    assert f"{len(VALUES)} spellings of JSON" in TEXT
    counts = f"{len(STRINGS)} odd strings as scope and key, {len(TWINS)} pairs of look-alikes"
    assert f"{counts}, {len(JOINED)} joints" in TEXT


def test_every_error_and_capability_is_on_the_page() -> None:
    raised = [
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.AdapterError)
    ]
    assert sorted(table("Errors")) == sorted(f"`{name}`" for name in raised)
    assert [level.name for level in Durability if f"Durability.{level.name}" not in TEXT] == []


def test_every_method_to_write_is_named() -> None:
    required = re.search(r"\n(`get`.*?) are required\.", TEXT, re.DOTALL)
    assert required is not None
    assert set(re.findall(r"`(\w+)`", required[1])) == set(StateAdapter.__abstractmethods__)
