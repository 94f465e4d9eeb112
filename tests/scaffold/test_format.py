"""What is generated needs no formatter: the longest names and the default ones, whatever is chosen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.projects import node_modules, run, write_project
from support.scaffold import Combination, covering, product
from support.sdk import tool

RUFF = Path(sys.executable).with_name("ruff")
OTHERS = {"adapter": "redis", "config": "modules", "docker": True}


def combinations() -> list[Combination]:
    """The covering set with its names and with the longest; with III_SKILL_TEST_ALL the full product too."""
    everything = product() if os.environ.get("III_SKILL_TEST_ALL") else ()
    longest = [{**code, **OTHERS, "shape": "longest"} for code in everything]
    return [*covering(), *({**one, "shape": "longest"} for one in covering()), *longest]


def written(language: str, directory: Path) -> list[Path]:
    return [
        write_project(language, combination, directory / f"p{number:03}")
        for number, combination in enumerate(combinations())
    ]


def test_ruff_changes_nothing(tmp_path: Path) -> None:
    for project in written("python", tmp_path)[:24]:
        run([str(RUFF), "check", "--quiet", "."], project)
    run([str(RUFF), "format", "--check", "--quiet", "."], tmp_path)


@pytest.mark.parametrize("language", ["javascript", "typescript"])
def test_prettier_changes_nothing(language: str, tmp_path: Path) -> None:
    written(language, tmp_path)
    prettier = node_modules(language) / "prettier" / "bin" / "prettier.cjs"
    sources = "**/*.{js,ts,json,yaml}"
    run([tool("node"), str(prettier), "--check", "--log-level", "warn", sources], tmp_path)


def test_rustfmt_changes_nothing(tmp_path: Path) -> None:
    sources = [
        str(project / source)
        for project in written("rust", tmp_path)
        for source in ("src/main.rs", "tests/worker.rs")
    ]
    style = ["--edition", "2024", "--config-path", str(tmp_path / "p000")]
    run([tool("rustfmt"), "--check", "--quiet", *style, *sources], tmp_path)
