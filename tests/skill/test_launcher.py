"""The launcher of the installed skill: which way it takes, and that each way runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.skill_tools import clean_environment, python_tools
from support.tree import MIRROR, ROOT, SKILL_NAME, copy_tracked

from iii_skill import __version__

pytestmark = pytest.mark.timeout(900)
"""An installation by pip is bounded by the load and the network alone, and some tests make two."""
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


def wheel_of(folder: Path) -> Path:
    """The package that the skill carries."""
    (wheel,) = (folder / "assets").iterdir()
    return wheel


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
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400)


def test_with_uv_the_package_beside_it_scaffolds_a_worker(whole: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home", python_tools())
    done = launch(whole, ["scaffold", "python", "my-worker", "--defaults"], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "[iii-skill] uvx, package beside: " in done.stderr
    assert (tmp_path / "my-worker" / "my_worker.py").is_file()


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
    assert way["command"][1:] == ["--from", f"{ROOT}[redis,postgres]", "iii-skill"]


def test_skill_alone_takes_the_command_on_path(mirror: Path, tmp_path: Path) -> None:
    program = tmp_path / "tools" / "iii-skill"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nprint('called', sys.argv[1:])\n")
    program.chmod(0o755)
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path, str(program)))}
    done = launch(mirror, ["serve", "--port", "0"], environment, tmp_path)
    assert (done.returncode, done.stdout) == (0, "called ['serve', '--port', '0']\n"), done.stderr


def test_skill_alone_with_uv_takes_the_wheel_in_it(mirror: Path, tmp_path: Path) -> None:
    uv = python_tools()
    path = bare_path(tmp_path, str(uv / "uvx"), str(uv / "uv"))
    environment = clean_environment(tmp_path / "home") | {
        "PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin"
    }
    way = json.loads(launch(mirror, ["--how"], environment, tmp_path).stdout)
    assert way["way"] == "uvx, wheel in the skill"
    assert way["command"][2] == f"{wheel_of(mirror)}[redis,postgres]"
    done = launch(mirror, ["adapters", "--json"], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {adapter["name"] for adapter in json.loads(done.stdout)["adapters"]} == {
        "file",
        "memory",
        "postgres",
        "redis",
    }
    assert "[iii-skill] uvx, wheel in the skill: " in done.stderr


def test_skill_alone_without_uv_starts_a_host_from_the_wheel_in_it(mirror: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    command = [
        sys.executable,
        str(mirror / LAUNCHER),
        "serve",
        "--port",
        "0",
        "--http-port",
        "0",
        "--ready-json",
    ]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        ready = json.loads(host.stdout.readline())
        assert ready["adapter"] == "file"
        host.terminate()
        assert host.wait(timeout=30) == 0
    way = json.loads(launch(mirror, ["--how"], environment, tmp_path).stdout)
    libraries = [way["python"], "-c", "import asyncpg, redis.asyncio"]
    assert subprocess.run(libraries).returncode == 0, "what `--database-url` and `--redis-url` need"
    print(f"cold start of the skill alone: {time.monotonic() - started:.1f} s")


def test_nothing_of_ours_is_fetched_by_name(mirror: Path, tmp_path: Path) -> None:
    """Whatever lies at hand, no way names the package; a skill that lost its wheel says so."""
    uv = python_tools()
    for programs in ((), (str(uv / "uvx"), str(uv / "uv"))):
        folder = tmp_path / f"with-{len(programs)}"
        folder.mkdir()
        environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(folder, *programs))}
        way = json.loads(launch(mirror, ["--how"], environment, tmp_path).stdout)
        named = [word for word in [*way["command"], way.get("install", "")] if word.startswith("iii-skill")]
        assert named in ([], ["iii-skill"])
        if named:
            assert way["command"][1:] == ["--from", f"{wheel_of(mirror)}[redis,postgres]", "iii-skill"]
    wheel_of(mirror).unlink()
    done = launch(mirror, ["serve"], environment, tmp_path)
    assert done.returncode == 69
    assert "this copy of the skill is incomplete" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_way_ends_with_one_sentence_and_leaves_nothing(mirror: Path, tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "none")}
    done = launch(mirror, ["serve"], environment | nowhere, tmp_path)
    assert done.returncode == 69
    assert "(the lines above say why): install uv and try again." in done.stderr
    assert list((tmp_path / "home" / ".cache" / "iii-skill").iterdir()) == []


class Alone:
    """The skill alone and without uv, in a home of its own."""

    def __init__(self, mirror: Path, tmp_path: Path) -> None:
        self.mirror, self.place = mirror, tmp_path
        self.home = tmp_path / "home"
        self.environment = clean_environment(self.home) | {"PATH": str(bare_path(tmp_path))}

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return launch(self.mirror, ["--version"], self.environment | environment, self.place)

    def how(self) -> dict[str, Any]:
        way: dict[str, Any] = json.loads(launch(self.mirror, ["--how"], self.environment, self.place).stdout)
        return way


@pytest.fixture
def alone(mirror: Path, tmp_path: Path) -> Alone:
    return Alone(mirror, tmp_path)


@pytest.mark.parametrize("setting", ["PREFIX", "TARGET", "USER", "NO_DEPS"])
def test_settings_of_pip_in_the_environment_lead_nothing_away(alone: Alone, setting: str) -> None:
    elsewhere = alone.place / "elsewhere"
    value = str(elsewhere) if setting in {"PREFIX", "TARGET"} else "1"
    done = alone.run(**{f"PIP_{setting}": value, "PYTHONPATH": str(alone.place), "III_SKILL_VERSION": "9"})
    assert (done.returncode, done.stdout) == (0, f"iii-skill, version {__version__}\n"), done.stderr
    assert not elsewhere.exists()


@pytest.mark.parametrize("setting", ["target", "prefix"])
def test_a_configuration_of_pip_that_leads_away_is_one_sentence(alone: Alone, setting: str) -> None:
    settings = alone.place / "pip.conf"
    settings.write_text(f"[install]\n{setting} = {alone.place / 'elsewhere'}\n")
    done = alone.run(PIP_CONFIG_FILE=str(settings))
    assert done.returncode == 69
    assert "look for prefix, target and root in `pip config list`" in done.stderr
    assert alone.run().returncode == 0, "the next start, with the setting gone, mends it by itself"


def gone_python(way: dict[str, Any]) -> None:
    python = Path(way["python"])
    python.unlink()
    python.symlink_to("/nonexistent/python3")


def gone_package(way: dict[str, Any]) -> None:
    for site in Path(way["environment"]).glob("lib/python*/site-packages/iii_skill"):
        shutil.rmtree(site)


def gone_command(way: dict[str, Any]) -> None:
    Path(way["command"][0]).unlink()


@pytest.mark.parametrize("damage", [gone_python, gone_package, gone_command])
def test_an_environment_that_lost_something_is_made_anew(
    alone: Alone, damage: Callable[[dict[str, Any]], None]
) -> None:
    assert alone.run().returncode == 0
    damage(alone.how())
    done = alone.run()
    assert (done.returncode, "installing" in done.stderr) == (0, True), done.stderr
    assert "installing" not in alone.run().stderr


def test_any_change_of_the_package_makes_another_environment(whole: Path, tmp_path: Path) -> None:
    """A newer template alone, and an older file time, count too."""
    environment = clean_environment(tmp_path / "home") | {"PATH": str(bare_path(tmp_path))}
    copy = Path(shutil.copytree(whole, tmp_path / "skills" / SKILL_NAME))
    seen = set()
    for file in (None, "templates/python/worker.py.j2", "README.md", "plugins/iii_state_file/store.py"):
        if file is not None:
            (copy / file).write_text((copy / file).read_text() + "\n")
            os.utime(copy / file, (0, 0))
        seen.add(json.loads(launch(copy, ["--how"], environment, tmp_path).stdout)["environment"])
    assert len(seen) == 4


@pytest.mark.parametrize("home", [None, "", "relative", "/proc/nowhere"])
def test_without_a_usable_home_the_environment_lies_among_temporary_files(
    alone: Alone, home: str | None
) -> None:
    temporary = alone.place / "tmp"
    temporary.mkdir()
    environment = {
        name: value for name, value in alone.environment.items() if name not in {"HOME", "XDG_CACHE_HOME"}
    }
    environment["TMPDIR"] = str(temporary)
    if home is None:
        code = "import runpy,sys,pwd; pwd.getpwuid=lambda _: (_ for _ in ()).throw(KeyError());"
        code += (
            f"sys.argv=['x','--how']; runpy.run_path({str(alone.mirror / LAUNCHER)!r}, run_name='__main__')"
        )
        command = [sys.executable, "-c", code]
    else:
        environment["HOME"] = home
        command = [sys.executable, str(alone.mirror / LAUNCHER), "--how"]
    done = subprocess.run(
        command, env=environment, cwd=alone.place, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["environment"]).parent == temporary / f"iii-skill-{os.getuid()}"
    assert (temporary / f"iii-skill-{os.getuid()}").stat().st_mode & 0o77 == 0


OLD = """
import runpy, sys
sys.version_info = (3, 8, 0)
sys.argv = [sys.argv[1], "serve", "--port", "0"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("newer", ["python3.12", "python3.14", None])
def test_an_old_python_without_uv_becomes_a_newer_one_or_says_what_is_missing(
    alone: Alone, newer: str | None
) -> None:
    if newer is not None:
        program = alone.place / "path" / newer
        program.write_text(f"#!{sys.executable}\nimport sys\nprint('became', sys.argv[1:])\n")
        program.chmod(0o755)
    command = [sys.executable, "-c", OLD, str(alone.mirror / LAUNCHER)]
    done = subprocess.run(
        command, env=alone.environment, cwd=alone.place, capture_output=True, text=True, timeout=60
    )
    if newer is None:
        assert done.returncode == 69
        assert "Python 3.11 or newer is needed, or uv" in done.stderr
    else:
        expected = [str(alone.mirror / LAUNCHER), "serve", "--port", "0"]
        assert (done.returncode, done.stdout) == (0, f"became {expected}\n"), done.stderr


def test_a_place_among_temporary_files_that_others_can_write_is_refused(alone: Alone) -> None:
    own = alone.place / "tmp" / f"iii-skill-{os.getuid()}"
    own.mkdir(parents=True)
    own.chmod(0o777)
    environment = alone.environment | {"HOME": "/proc/nowhere", "TMPDIR": str(own.parent)}
    del environment["XDG_CACHE_HOME"]
    done = launch(alone.mirror, ["--version"], environment, alone.place)
    assert done.returncode == 69
    assert "belongs to somebody else: remove it, or set XDG_CACHE_HOME." in done.stderr


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
    assert way["way"] == "uvx, wheel in the skill"
