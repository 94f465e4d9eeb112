"""The page about shared adapters holds: its example passes the whole kit, its harness does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import redis
from support.cellar import PAGE
from support.markdown import blocks
from support.tree import SKILL_NAME, copy_tracked

from iii_skill.testing.kit import CHECKS

BLOCKS = blocks(PAGE)

pytestmark = pytest.mark.timeout(600)


def bash(script: str, place: Path, **more: str) -> str:
    """Run a script that must end well; what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_"))}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=place, env={**kept, **more}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_newcomer_who_does_what_the_page_says_has_a_shared_adapter_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    copy_tracked(tmp_path / ".agents" / "skills" / SKILL_NAME)
    place = tmp_path / "iii-state-cellar"
    with redis.redis_server() as server:
        printed = ""
        for block in BLOCKS:
            if "." in block.directive:
                if block.directive != "test_break.py":
                    file = place / block.directive
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(block.text)
            elif block.directive == "run":
                printed = bash(block.text, place, REDIS_URL=server.url)
            else:
                assert block.directive == "output"
                assert [line for line in block.text.splitlines() if line not in printed] == [], printed
        assert server.client.dbsize() == 0


def test_the_harness_of_the_page_runs(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.directive == "test_break.py"]
    (tmp_path / "test_break.py").write_text(block.text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert "1 passed" in bash("pytest -q test_break.py", tmp_path, PATH=path)


def test_every_check_named_on_the_page_is_there() -> None:
    names = [check.name for check in CHECKS]
    section = PAGE.read_text().split("\n## What a server does to you\n", 1)[1].split("\n## ", 1)[0]
    named = re.findall(r"^\|[^|]*\|([^|]*`[^|]*)\|", section, re.MULTILINE)
    found = [word for cell in named for word in re.findall(r"`([a-z-]+(?:\.\.\.)?)`", cell)]
    assert len(found) > 10
    for word in found:
        assert any(name == word or name.startswith(word.removesuffix("...")) for name in names), word
