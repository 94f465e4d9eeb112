"""The validators of skills and plugin manifests find nothing, warnings included."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.skill_tools import clean_environment, npm_program, python_tools
from support.tree import SKILL_NAME, copy_tracked

MIRROR = f"skills/{SKILL_NAME}"
WHOLE_REPOSITORY = "agentskill-unreferenced-files"
"""The only rule left out at the root: an installed repository holds more than the skill refers to."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tracked(tmp_path_factory.mktemp("validators") / "iii-skill")


def check(command: list[str], checkout: Path, home: Path) -> None:
    """Run a validator in the checkout and fail with what it says."""
    done = subprocess.run(
        command,
        cwd=checkout,
        env=clean_environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["agentskills", "validate", MIRROR],
        ["skillsaw", "lint", "--strict", MIRROR],
        ["skillsaw", "lint", "--strict", "--skip-rule", WHOLE_REPOSITORY, "."],
        ["agnix", "--strict", MIRROR],
        ["agnix", "--strict", ".claude-plugin/plugin.json", ".claude-plugin/marketplace.json"],
        ["agnix", "--strict", "plugin.json", "gemini-extension.json"],
    ],
    ids=" ".join,
)
def test_python_validator_finds_nothing(arguments: list[str], checkout: Path, tmp_path: Path) -> None:
    check([str(python_tools() / arguments[0]), *arguments[1:]], checkout, tmp_path / "home")


def test_skill_check_finds_nothing(checkout: Path, tmp_path: Path) -> None:
    program = npm_program("skill-check", "1.2.0")
    check(
        ["node", program, "check", MIRROR, "--no-security-scan", "--fail-on-warning"],
        checkout,
        tmp_path / "h",
    )


def test_claude_accepts_plugin_and_marketplace(checkout: Path, tmp_path: Path) -> None:
    program = npm_program("@anthropic-ai/claude-code", "2.1.197")
    check([program, "plugin", "validate", ".", "--strict"], checkout, tmp_path / "home")


def test_gemini_accepts_the_extension(checkout: Path, tmp_path: Path) -> None:
    program = npm_program("@google/gemini-cli", "0.61.0")
    check(["node", program, "extensions", "validate", "."], checkout, tmp_path / "home")
