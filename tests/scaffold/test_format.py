"""What is generated needs no formatter and compiles without a warning, under short and the longest names."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.projects import node_modules, run, write_project
from support.scaffold import Combination, covering, product
from support.sdk import CACHE, cargo_environment, cargo_lock, tool

RUFF = Path(sys.executable).with_name("ruff")
OTHERS = {"adapter": "redis", "config": "modules", "docker": True}


def combinations() -> list[Combination]:
    """The covering set with its names and with the longest; with III_SKILL_TEST_ALL the full product too."""
    everything = product() if os.environ.get("III_SKILL_TEST_ALL") else ()
    longest = [{**code, **OTHERS, "shape": "longest"} for code in everything]
    return [*covering(), *({**one, "shape": "longest"} for one in covering()), *longest]


def written(language: str, directory: Path) -> list[Path]:
    return [
        write_project(
            language,
            combination,
            directory / f"p{number:03}",
            name="n" * 50 if combination["shape"] == "longest" else "sample-worker",
        )
        for number, combination in enumerate(combinations())
    ]


def test_ruff_changes_nothing_and_finds_nothing(tmp_path: Path) -> None:
    written("python", tmp_path)
    run([str(RUFF), "format", "--check", "--quiet", "."], tmp_path)
    run([str(RUFF), "check", "--quiet", "."], tmp_path)


@pytest.mark.timeout(900)
def test_the_typescript_compiler_finds_nothing(tmp_path: Path) -> None:
    """All projects in one program; each file is a module of its own."""
    written("typescript", tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules("typescript"))
    shutil.copy(tmp_path / "p000" / "tsconfig.json", tmp_path / "base.json")
    settings = {
        "extends": "./base.json",
        "include": ["p*/src", "p*/tests"],
        "compilerOptions": {"noEmit": True},
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    compiler = tmp_path / "node_modules" / "typescript" / "bin" / "tsc"
    run([tool("node"), "--max-old-space-size=3000", str(compiler)], tmp_path)


@pytest.mark.timeout(900)
def test_the_rust_compiler_finds_nothing(tmp_path: Path) -> None:
    """All workers as programs of one crate; warnings are errors."""
    first, *_ = projects = written("rust", tmp_path / "projects")
    place = CACHE / "project-rust-all"
    with cargo_lock():
        shutil.rmtree(place, ignore_errors=True)
        (place / "src" / "bin").mkdir(parents=True)
        shutil.copy(first / "Cargo.toml", place)
        for project in projects:
            shutil.copy(project / "src" / "main.rs", place / "src" / "bin" / f"{project.name}.rs")
        command = [tool("cargo"), "clippy", "--quiet", "--bins", "--", "-D", "warnings"]
        run(command, place, cargo_environment())


@pytest.mark.parametrize("language", ["javascript", "typescript"])
@pytest.mark.timeout(900)
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
