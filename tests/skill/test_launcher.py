"""The launcher of the installed skill: which way it takes, and that each way runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.skill_tools import clean_environment, python_tools
from support.tree import MIRROR, ROOT, SKILL_NAME, copy_tracked

LAUNCHER = "scripts/iii_skill_run.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole repository installed as a skill, in a project whose ignore rules would hide half of it."""
    project = tmp_path_factory.mktemp("project")
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / ".gitignore").write_text("plugins/\ntemplates/\n*.toml\n.agents/\n")
    folder = project / ".agents" / "skills" / SKILL_NAME
    copy_tracked(folder)
    (folder / ".gitignore").unlink()  # some installers drop files that begin with a dot
    return folder


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Only the skill, as the mirror carries it."""
    return Path(shutil.copytree(MIRROR, tmp_path / "skills" / SKILL_NAME))


def bare_path(tmp_path: Path, *programs: str) -> Path:
    """A folder for PATH that holds just these programs."""
    folder = tmp_path / "path"
    folder.mkdir(exist_ok=True)
    for program in programs:
        (folder / Path(program).name).symlink_to(program)
    return folder


def launch(
    folder: Path, arguments: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / LAUNCHER), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110)


def test_with_uv_the_package_beside_it_scaffolds_a_worker(whole: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home", python_tools())
    done = launch(whole, ["scaffold", "python", "my-worker", "--defaults"], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[iii-skill] uvx, package beside: " in done.stderr
    assert (tmp_path / "my-worker" / "worker.py").is_file()


def test_without_uv_it_installs_the_package_beside_it_once(whole: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    first = launch(whole, ["adapters", "--json"], environment, tmp_path)
    assert first.returncode == 0, first.stderr
    assert "installing" in first.stderr
    names = {adapter["name"] for adapter in json.loads(first.stdout)["adapters"]}
    assert {"memory", "file"} <= names, first.stdout
    again = launch(whole, ["adapters", "--json"], environment, tmp_path)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "installing" not in again.stderr


def test_two_at_once_install_once_over_what_a_killed_one_left(whole: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    way = json.loads(launch(whole, ["--how"], environment, tmp_path).stdout)
    left = Path(way["environment"]) / "bin" / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(launch, whole, ["adapters", "--json"], environment, tmp_path) for _ in range(2)]
        done = [future.result() for future in both]
    assert [one.returncode for one in done] == [0, 0], done
    assert sum("installing" in one.stderr for one in done) == 1
    assert not left.exists()


def test_mirror_inside_the_repository_finds_the_package(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home", python_tools())
    way = json.loads(launch(MIRROR, ["--how"], environment, tmp_path).stdout)
    assert way["command"][1:] == ["--from", str(ROOT), "iii-skill"]


def test_skill_alone_takes_the_command_on_path(mirror: Path, tmp_path: Path) -> None:
    program = tmp_path / "tools" / "iii-skill"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('called', sys.argv[1:])\n")
    program.chmod(0o755)
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path, str(program)))}
    done = launch(mirror, ["serve", "--port", "0"], environment, tmp_path)
    assert (done.returncode, done.stdout) == (0, "called ['serve', '--port', '0']\n"), done.stderr


def test_skill_alone_takes_the_published_package(mirror: Path, tmp_path: Path) -> None:
    """The published package is played by a wheel of this checkout in a folder that uv searches."""
    wheels = tmp_path / "wheels"
    uv = str(python_tools() / "uv")
    environment = clean_environment(tmp_path / "home")
    built = subprocess.run(
        [uv, "build", "--wheel", "--out-dir", str(wheels), str(copy_tracked(tmp_path / "checkout"))],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    path = bare_path(tmp_path, str(python_tools() / "uvx"), uv)
    found = environment | {
        "PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "UV_FIND_LINKS": str(wheels),
    }
    done = launch(mirror, ["--version"], found, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[iii-skill] uvx, published package: " in done.stderr
    assert "iii-skill" in done.stdout


def test_no_way_ends_with_one_sentence_and_leaves_nothing(mirror: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "none")}
    done = launch(mirror, ["serve"], environment | nowhere, tmp_path)
    assert done.returncode == 69
    assert "could not install iii-skill (the lines above say why): pip install a clone" in done.stderr
    assert list((tmp_path / "home" / ".cache" / "iii-skill").iterdir()) == []


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_help_is_printed(arguments: list[str], code: int, mirror: Path, tmp_path: Path) -> None:
    done = launch(mirror, arguments, clean_environment(tmp_path / "home"), tmp_path)
    assert done.returncode == code
    assert "scaffold python DEST" in done.stdout


def test_package_that_lost_files_is_not_used(whole: Path, tmp_path: Path) -> None:
    """Old installers drop every file that begins with an underscore."""
    broken = tmp_path / "skills" / SKILL_NAME
    shutil.copytree(whole, broken, ignore=shutil.ignore_patterns("_*", ".venv"))
    environment = clean_environment(tmp_path / "home", python_tools())
    way = json.loads(launch(broken, ["--how"], environment, tmp_path).stdout)
    assert way["way"] != "uvx, package beside"
