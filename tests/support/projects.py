"""Generated projects: written, installed from the registries, checked by the tools of their language, run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from support.exercise import exercise, functions_of
from support.redis import redis_server
from support.scaffold import Combination, covering, files_of
from support.sdk import BUILD_SECONDS, CACHE, CARGO_TARGET, cargo_environment, cargo_lock, once, tool, untimed
from support.served import ServedHost, served_host, serving_worker
from support.tree import ROOT

Check: TypeAlias = Callable[[Path], tuple[list[str], list[str]]]
HOST = {"III_SKILL": f"{sys.executable} -m iii_skill", "OTEL_ENABLED": "false"}


def write_project(
    language: str, combination: Combination, directory: Path, *, name: str = "sample-worker"
) -> Path:
    """The project in a directory of its own."""
    for path, content in files_of(language, combination, name=name).items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    return directory


def run(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    seconds: float | None = None,
) -> None:
    """A tool of the project; its output is shown when it fails."""
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(
        command, cwd=directory, env=variables, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


def python_tools() -> Path:
    """The `bin` of an environment with everything that the Python project names."""

    def build(target: Path) -> None:
        project = tomllib.loads(files_of("python", covering()[0])["pyproject.toml"].decode())["project"]
        # Editable, so that the plugin is always the one of this tree.
        wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], "-e", f"{ROOT}[test]"]
        run([sys.executable, "-m", "venv", "--without-pip", str(target)], CACHE)
        pip = [sys.executable, "-m", "pip", "--python", str(target / "bin" / "python")]
        run([*pip, "install", "--quiet", "--disable-pip-version-check", *wanted], CACHE)

    return once("project-python-kit", build) / "bin"


def node_modules(language: str) -> Path:
    """The `node_modules` with everything that the project names."""

    def build(target: Path) -> None:
        target.mkdir()
        (target / "package.json").write_bytes(files_of(language, covering()[0])["package.json"])
        run([tool("npm"), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], target)

    return once(f"project-{language}", build) / "node_modules"


def check_python(project: Path) -> tuple[list[str], list[str]]:
    """Format, lint, types; then how to run the worker and its tests."""
    python = str(python_tools() / "python")
    run([python, "-m", "ruff", "format", "--check", "."], project)
    run([python, "-m", "ruff", "check", "."], project)
    # One of its own for each process that runs tests.
    cache = CACHE / f"mypy-projects-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    run([python, "-m", "mypy", "--cache-dir", str(cache)], project)
    return [python, "sample_worker.py"], [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def check_node(project: Path) -> tuple[list[str], list[str]]:
    """The same for JavaScript and TypeScript."""
    typescript = (project / "tsconfig.json").exists()
    modules = node_modules("typescript" if typescript else "javascript")
    (project / "node_modules").symlink_to(modules)
    node = tool("node")
    run([node, str(modules / "prettier" / "bin" / "prettier.cjs"), "--check", "."], project)
    run([node, str(modules / "eslint" / "bin" / "eslint.js"), "."], project)
    if typescript:
        run([node, str(modules / "typescript" / "bin" / "tsc")], project)
        return [node, "dist/src/worker.js"], [node, "--test", "dist/tests/worker.test.js"]
    return [node, "worker.js"], [node, "--test", "tests/worker.test.js"]


def check_rust(project: Path) -> tuple[list[str], list[str]]:
    """The same for Rust; the caller holds the lock of cargo."""
    environment = cargo_environment()
    clippy = [tool("cargo"), "clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]
    with untimed():
        run([tool("cargo"), "fmt", "--check"], project)
        run(clippy, project, environment, seconds=BUILD_SECONDS)
        run([tool("cargo"), "test", "--quiet", "--no-run"], project, environment, seconds=BUILD_SECONDS)
    binary = CARGO_TARGET / "debug" / "sample-worker"
    return [str(binary)], [tool("cargo"), "test", "--quiet"]


def prove(language: str, combination: Combination, directory: Path, *, own_host: bool) -> None:
    """Generate, check, run on our host, use it, then run the project's own tests."""
    if language == "rust":
        with cargo_lock():
            place = CACHE / "project-rust"
            shutil.rmtree(place, ignore_errors=True)
            _prove(
                check_rust,
                combination,
                write_project("rust", combination, place),
                own_host,
                cargo_environment(),
            )
        return
    project = write_project(language, combination, directory)
    _prove(check_python if language == "python" else check_node, combination, project, own_host, {})


def _prove(
    check: Check, combination: Combination, project: Path, own_host: bool, environment: Mapping[str, str]
) -> None:
    worker, tests = check(project)
    with _host(combination, project) as host:
        expected = functions_of(combination)
        with serving_worker(worker, host, expected, cwd=project) as log:
            exercise(host, combination, log)
        if not own_host:
            if "pytest" in tests:
                tests = [*tests, "--iii-real-engine", host.ws]
            run(tests, project, {**environment, "III_URL": host.ws, "III_HTTP": host.http or ""})
    if own_host:
        run(tests, project, {**environment, **HOST})


@contextmanager
def _host(combination: Combination, project: Path) -> Iterator[ServedHost]:
    """Our host with the project's own configuration file, on the adapter that it names."""
    options = ("--config", "iii-config.yaml")
    if combination["adapter"] == "redis":
        with (
            redis_server() as server,
            served_host(*options, cwd=project, environment={"REDIS_URL": server.url}) as host,
        ):
            yield host
    else:
        with served_host(*options, cwd=project) as host:
            yield host
