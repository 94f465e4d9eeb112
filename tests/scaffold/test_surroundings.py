"""A fresh project is its own wherever it lies: its lint, build and tests ask nothing of what is around."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.projects import HOST, check_node, check_python, check_rust, run, write_project
from support.scaffold import covering
from support.sdk import CACHE, cargo_environment, cargo_lock, tool
from support.served import served_host, serving_worker
from support.tree import MIRROR, SKILL_NAME

from iii_skill.cli.scaffold import scaffold
from iii_skill.scaffold.surroundings import surroundings

EDITORCONFIG = """root = true
[*]
indent_style = tab
indent_size = 8
max_line_length = 60
end_of_line = crlf
quote_type = double
"""
NAMES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "ws_proxy")
PROXIES = dict.fromkeys(NAMES, "http://127.0.0.1:9")


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A place for a project below folders with rules of their own."""
    (tmp_path / ".editorconfig").write_text(EDITORCONFIG)
    (tmp_path / ".prettierrc").write_text('{"semi": false, "tabWidth": 7}')
    (tmp_path / "ruff.toml").write_text('line-length = 40\n[lint]\nselect = ["ALL"]\n')
    (tmp_path / "rustfmt.toml").write_text("max_width = 50\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "tsconfig.json").write_text('{"compilerOptions": {"target": "es5"}}')
    return tmp_path / ".hidden" / "project"


def with_skills(project: Path) -> None:
    """Where installers of skills put them."""
    for folder in (".agents/skills", ".claude/skills", "skills"):
        shutil.copytree(MIRROR, project / folder / SKILL_NAME)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", ["python", "javascript", "typescript"])
@pytest.mark.parametrize("name", ["sample-worker", "a" * 32])
def test_its_lint_passes_under_foreign_rules_and_with_skills_in_it(
    language: str, name: str, crowded: Path
) -> None:
    project = write_project(language, covering()[0], crowded, name=name)
    with_skills(project)
    (check_python if language == "python" else check_node)(project)


WORKSPACES = {
    "no member": ('[workspace]\nmembers = ["crates/*"]\n', "worker", False),
    "a member by pattern": ('[workspace]\nmembers = ["crates/*"]\n', "crates/worker", True),
    "a member by name": ('[workspace]\nmembers = ["./worker"]\n', "worker", True),
    "deeper than the pattern": ('[workspace]\nmembers = ["crates/*"]\n', "crates/a/worker", False),
    "excluded": (
        '[workspace]\nmembers = ["crates/*"]\nexclude = ["crates/worker"]\n',
        "crates/worker",
        False,
    ),
    "no workspace": ('[package]\nname = "above"\nversion = "0.1.0"\nedition = "2024"\n', "worker", False),
    "no TOML": ("[", "worker", False),
}


@pytest.mark.parametrize(("manifest", "place", "member"), WORKSPACES.values(), ids=WORKSPACES)
def test_the_printed_cargo_build_finds_its_workspace(
    manifest: str, place: str, member: bool, tmp_path: Path
) -> None:
    (tmp_path / "Cargo.toml").write_text(manifest)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").touch()
    project = tmp_path / place
    assert surroundings(project) == {"cargo_member": member}
    result = CliRunner().invoke(scaffold, ["rust", str(project), "--defaults"])
    assert result.exit_code == 0, result.output
    command = [tool("cargo"), "metadata", "--no-deps", "--offline", "--format-version", "1", "--quiet"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = CliRunner().invoke(scaffold, ["update", str(project)])
    assert "Nothing changed" in again.output


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["python", "javascript", "typescript", "rust"])
def test_its_tests_pass_behind_a_proxy_that_is_down(language: str, tmp_path: Path) -> None:
    rust = language == "rust"
    with cargo_lock() if rust else nullcontext():
        place = CACHE / "project-rust" if rust else tmp_path / "project"
        if rust:
            shutil.rmtree(place, ignore_errors=True)
        project = write_project(language, covering()[0], place)
        check = {"python": check_python, "rust": check_rust}.get(language, check_node)
        _, tests = check(project)
        run(tests, project, {**(cargo_environment() if rust else {}), **HOST, **PROXIES})


@pytest.mark.timeout(300)
def test_a_python_worker_reaches_a_host_on_this_machine_past_a_proxy(tmp_path: Path) -> None:
    """Its tests set no_proxy for their own process; the worker has to do so by itself."""
    project = write_project("python", covering()[0], tmp_path / "project")
    command, _ = check_python(project)
    with served_host("--adapter", "memory", cwd=tmp_path) as host:
        wrapped = ["env", *(f"{name}={value}" for name, value in PROXIES.items()), *command]
        with serving_worker(wrapped, host, {"products::create"}, cwd=project):
            assert host.call("products::create", {"name": "a", "price": 1, "category": "b"})["result"]["id"]


def test_two_python_workers_share_one_environment(tmp_path: Path) -> None:
    """Each has a module of its own name, so neither hides the other."""
    site = tmp_path / "site"
    projects = [
        str(write_project("python", covering()[0], tmp_path / name, name=name))
        for name in ("first-worker", "second-worker")
    ]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--no-build-isolation", "--target", str(site), *projects], tmp_path)
    found = {
        point.name: point.module
        for dist in metadata.distributions(path=[str(site)])
        for point in dist.entry_points
    }
    assert found == {"first-worker": "first_worker", "second-worker": "second_worker"}
    for name, module in found.items():
        assert f'log = Logger(service_name="{name}")' in (site / f"{module}.py").read_text()
