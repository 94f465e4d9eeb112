"""What is built installs and runs: wheel, sdist, `uvx --from DIR`, `pip install git+...`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from support.sdk import tool
from support.skill_tools import clean_environment, python_tools
from support.tree import ROOT, copy_tracked

from iii_skill import __version__

pytestmark = pytest.mark.timeout(300)

WHEEL = f"iii_skill-{__version__}-py3-none-any.whl"
SDIST = f"iii_skill-{__version__}.tar.gz"
ADAPTERS = ["file", "memory", "postgres", "redis"]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The stdout of a command that succeeds."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, target: Path, *kinds: str) -> None:
    """Build with the backend of pyproject.toml, without a network."""
    run(
        sys.executable, "-m", "hatchling", "build", "-d", target, *(f"-t{kind}" for kind in kinds), cwd=source
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a clone has it."""
    return copy_tracked(tmp_path_factory.mktemp("clone") / "iii-skill")


@pytest.fixture(scope="module")
def built(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with wheel and sdist."""
    target = tmp_path_factory.mktemp("dist")
    build(clone, target, "wheel", "sdist")
    return target


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new virtual environment with the wheel and the extras of adapters, far from here."""
    return install(built, tmp_path_factory.mktemp("user") / "venv", "redis,postgres")


def install(built: Path, venv: Path, extras: str) -> Path:
    """The `bin` of a new virtual environment with the wheel and these extras."""
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=built)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet"]
    run(*pip, "--disable-pip-version-check", f"{built / WHEEL}[{extras}]", cwd=built)
    return venv / "bin"


def wheel_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(archive.namelist())


def test_the_wheel_holds_package_plugins_and_templates_and_nothing_else(built: Path) -> None:
    names = wheel_names(built / WHEEL)
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "iii_cron",
        "iii_pubsub",
        "iii_queue",
        "iii_skill",
        "iii_stream",
        "iii_state_file",
        "iii_state_memory",
        "iii_state_postgres",
        "iii_state_redis",
        f"iii_skill-{__version__}.dist-info",
    }
    assert "iii_skill/py.typed" in names
    assert any(name.startswith("iii_skill/templates/") and name.endswith("template.toml") for name in names)
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".orig"))] == []


def test_every_source_file_is_in_the_wheel(built: Path, clone: Path) -> None:
    names = set(wheel_names(built / WHEEL))
    sources = {str(path.relative_to(clone)) for path in (clone / "iii_skill").rglob("*") if path.is_file()}
    sources |= {
        str(path.relative_to(clone / "plugins"))
        for path in (clone / "plugins").rglob("*.py")
        if path.is_file()
    }
    sources |= {
        f"iii_skill/{path.relative_to(clone)}" for path in (clone / "templates").rglob("*") if path.is_file()
    }
    names.add("iii_skill/sbom.cdx.json")  # beside the metadata instead, see test_release
    assert sorted(sources - names) == []


def test_every_plugin_package_is_typed(clone: Path) -> None:
    packages = [path for path in (clone / "plugins").iterdir() if (path / "__init__.py").exists()]
    assert [path.name for path in packages if not (path / "py.typed").exists()] == []


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    with tarfile.open(built / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / SDIST.removesuffix(".tar.gz")
    build(source, tmp_path / "dist", "wheel")
    assert wheel_names(tmp_path / "dist" / WHEEL) == wheel_names(built / WHEEL)


def test_the_installed_command_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    command = installed / "iii-skill"
    assert run(command, "--version", cwd=tmp_path) == f"iii-skill, version {__version__}\n"
    listed = json.loads(run(command, "adapters", "--json", cwd=tmp_path))
    assert [adapter["name"] for adapter in listed["adapters"]] == ADAPTERS
    assert listed["failed"] == []
    assert "worker" in run(command, "scaffold", "--list", cwd=tmp_path)
    assert run(installed / "python", "-m", "iii_skill", "--version", cwd=tmp_path).endswith(
        f"{__version__}\n"
    )


def test_the_installed_package_knows_its_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import iii_skill\n\n\nasync def main() -> None:\n"
        '    async with iii_skill.open_host(adapter="memory") as host:\n'
        '        await host.trigger("state::get", {"scope": "a", "key": "b"})\n'
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python"]
    env = {**os.environ, "MYPYPATH": ""}
    assert "Success" in run(*mypy, "--cache-dir", tmp_path / "cache", "mine.py", cwd=tmp_path, env=env)


async def test_the_extra_mcp_alone_serves_tools(built: Path, tmp_path: Path) -> None:
    programs = install(built, tmp_path / "venv", "mcp")
    words = ["mcp", "--data-dir", str(tmp_path / "state"), "--allow-write"]
    home = {"HOME": str(tmp_path), "PATH": str(programs)}
    started = StdioServerParameters(command=str(programs / "iii-skill"), args=words, env=home, cwd=tmp_path)
    async with Client(stdio_client(started)) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        write = {"action": "set", "scope": "shop", "key": "pen", "value": '{"left":3}'}
        written = await client.call_tool("state_write", write)
        found = await client.call_tool("state_get", {"scope": "shop", "key": "pen"})
    assert names == ["state_scopes", "state_list", "state_get", "state_write", "state_watch", "doctor"]
    assert not written.is_error
    assert found.structured_content is not None
    assert json.loads(found.structured_content["value"]) == {"left": 3}


def test_without_the_extras_the_other_adapters_work(built: Path, tmp_path: Path) -> None:
    env = clean_environment(tmp_path / "home")
    uvx = [python_tools() / "uv", "tool", "run", "--python", sys.executable, "--from", built / WHEEL]
    listed = json.loads(run(*uvx, "iii-skill", "adapters", "--json", cwd=tmp_path, env=env))
    assert {"file", "memory"} <= {adapter["name"] for adapter in listed["adapters"]}


def test_uvx_runs_the_sources_of_a_directory_and_sees_changes(clone: Path, tmp_path: Path) -> None:
    source = copy_tracked(tmp_path / "skill")
    env = clean_environment(tmp_path / "home")
    uvx = [python_tools() / "uv", "tool", "run", "--python", sys.executable, "--from", source, "iii-skill"]
    assert __version__ in run(*uvx, "--version", cwd=tmp_path, env=env)
    main = source / "iii_skill" / "cli" / "main.py"
    main.write_text(main.read_text("utf-8").replace("Durable, pluggable", "Changed, pluggable"), "utf-8")
    assert "Changed, pluggable" in run(*uvx, "--help", cwd=tmp_path, env=env)


def test_pip_installs_from_a_git_repository(clone: Path, tmp_path: Path) -> None:
    repository = copy_tracked(tmp_path / "repository")
    git = [tool("git"), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    run(*git, "init", "--quiet", cwd=repository)
    run(*git, "add", ".", cwd=repository)
    run(*git, "commit", "--quiet", "-m", "all", cwd=repository)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    env = clean_environment(tmp_path / "home")
    uv = [python_tools() / "uv", "pip", "install", "--quiet", "--python", python]
    run(*uv, f"git+file://{repository}", cwd=tmp_path, env=env)
    assert "worker" in run(python, "-m", "iii_skill", "scaffold", "--list", cwd=tmp_path)


def test_a_surrounding_project_that_ignores_our_folders_does_not_thin_the_build(tmp_path: Path) -> None:
    outer = tmp_path / "project"
    outer.mkdir()
    run(tool("git"), "init", "--quiet", cwd=outer)
    (outer / ".gitignore").write_text("plugins/\ntemplates/\n*.toml\n*.j2\n.claude/\n")
    skill = copy_tracked(outer / ".claude" / "skills" / "iii-state-management")
    build(skill, tmp_path / "dist", "wheel")
    names = wheel_names(tmp_path / "dist" / WHEEL)
    assert "iii_state_file/__init__.py" in names
    assert any(name.endswith("template.toml") for name in names)


def test_package_and_project_have_the_same_version() -> None:
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")
