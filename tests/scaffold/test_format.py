"""What is generated needs no formatter and compiles without a warning, under short and the longest names."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.projects import node_modules, run, write_project
from support.scaffold import Combination, covering, singles, wide, with_companions
from support.sdk import CACHE, cargo_environment, cargo_lock, tool

RUFF = Path(sys.executable).with_name("ruff")
OTHERS = {"adapter": "redis", "config": "modules", "docker": True}


def combinations() -> list[Combination]:
    """The covering set with its names and with the longest; with III_SKILL_TEST_ALL the wide one too."""
    more = wide() if os.environ.get("III_SKILL_TEST_ALL") else ()
    longest = [{**code, **OTHERS, "shape": "longest"} for code in more]
    usual = (*covering(), *with_companions())
    return [*usual, *({**one, "shape": "longest"} for one in usual), *longest]


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


def written_singles(language: str, directory: Path) -> list[Path]:
    """Projects of one operation or companion: what others use may be left over there."""
    return [
        write_project(language, combination, directory / f"s{number:03}")
        for number, combination in enumerate(singles())
    ]


def test_python_of_one_operation_is_clean(tmp_path: Path) -> None:
    projects = written_singles("python", tmp_path)
    run([str(RUFF), "format", "--check", "--quiet", "."], tmp_path)
    run([str(RUFF), "check", "--quiet", "."], tmp_path)
    vulture = str(RUFF.with_name("vulture"))
    for project in projects:  # each by itself: what one does not use another may
        usual = ["--ignore-decorators", "@function", "--ignore-names", "data"]
        run([vulture, *usual, "sample_worker.py"], project)


@pytest.mark.parametrize("language", ["javascript", "typescript"])
@pytest.mark.timeout(900)
def test_node_of_one_operation_is_clean(language: str, tmp_path: Path) -> None:
    """All projects as parts of one."""
    first, *_ = written_singles(language, tmp_path)
    modules = node_modules(language)
    (tmp_path / "node_modules").symlink_to(modules)
    settings = (first / "eslint.config.js").read_text()
    settings = settings.replace("['tests/**']", "['**/tests/**']")
    settings = settings.replace("parserOptions: {", "parserOptions: { tsconfigRootDir: import.meta.dirname,")
    for project in tmp_path.glob("s*"):
        (project / "eslint.config.js").unlink()  # else it would be taken for the files beside it
    (tmp_path / "eslint.config.js").write_text(settings)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    sources = "s*/**/{worker,support}*.{js,ts}"
    prettier = str(modules / "prettier" / "bin" / "prettier.cjs")
    run([tool("node"), prettier, "--check", "--log-level", "warn", "s*/**/*.{js,ts,json,yaml}"], tmp_path)
    eslint = str(modules / "eslint" / "bin" / "eslint.js")
    run([tool("node"), "--max-old-space-size=3000", eslint, "--max-warnings", "0", sources], tmp_path)


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.environ.get("III_SKILL_TEST_ALL"), reason="compiles for minutes: --all")
def test_rust_of_one_operation_is_clean(tmp_path: Path) -> None:
    """Workers as programs and their tests as tests of one crate; warnings are errors."""
    first, *_ = projects = written_singles("rust", tmp_path)
    place = CACHE / "project-rust-singles"
    with cargo_lock():
        shutil.rmtree(place, ignore_errors=True)
        (place / "src" / "bin").mkdir(parents=True)
        (place / "tests").mkdir()
        shutil.copy(first / "Cargo.toml", place)
        for project in projects:
            shutil.copy(project / "src" / "main.rs", place / "src" / "bin" / f"{project.name}.rs")
            tests = (project / "tests" / "worker.rs").read_text()
            assert tests.count("CARGO_BIN_EXE_sample-worker") == 1
            named = tests.replace("CARGO_BIN_EXE_sample-worker", f"CARGO_BIN_EXE_{project.name}")
            (place / "tests" / f"{project.name}.rs").write_text(named)
        options = ("--quiet", "--all-targets", "--keep-going")
        command = [tool("cargo"), "clippy", *options, "--", "-D", "warnings"]
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
