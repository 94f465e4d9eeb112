"""Strangers' plugins, built as wheels and installed beside ours: used, tested, or named with the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.broken_plugins import BROKEN, SULKY, Broken
from support.client import raw_client
from support.host import HostFailed, running_host

ROOT = Path(__file__).parents[2]
LMDB = Path(__file__).parent / "acme-iii-lmdb"

pytestmark = pytest.mark.timeout(900)  # the whole kit runs in one of them: only the load makes it long


@dataclass(frozen=True)
class Environment:
    """A virtual environment with our wheel and the stranger's, and nothing of this checkout."""

    place: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.place / "bin" / "python")

    def run(self, *command: str, code: int = 0, directory: Path | None = None) -> str:
        """Run one of its programs; its standard output, once it ended with `code`."""
        program, *arguments = command
        done = subprocess.run(
            [self.place / "bin" / program, *arguments],
            cwd=directory or self.place,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def adapters(self) -> dict[str, Any]:
        """What `iii-skill adapters --json` prints."""
        report: dict[str, Any] = json.loads(self.run("iii-skill", "adapters", "--json"))
        return report


def clean_environment() -> dict[str, str]:
    """The environment without what would lead back into this checkout."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_"))}


def build(wheels: Path, *sources: Path) -> None:
    """Build each source directory as a wheel."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "wheel"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-w", wheels, *sources], check=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Both wheels, installed with what they depend on."""
    place = tmp_path_factory.mktemp("stranger")
    stranger = shutil.copytree(LMDB, place / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build(place / "wheels", ROOT, stranger)
    ours, theirs = sorted((place / "wheels").glob("*.whl"), key=lambda wheel: wheel.name.startswith("acme"))
    made = Environment(place / "environment")
    subprocess.run([sys.executable, "-m", "venv", made.place], check=True)
    made.run("pip", "--disable-pip-version-check", "-q", "install", f"{ours}[test]", str(theirs))
    return made


@pytest.fixture(scope="module")
def broken(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The same environment with all broken plugins installed too."""
    place = tmp_path_factory.mktemp("broken")
    plugins = [*BROKEN, SULKY]
    build(place / "wheels", *(write(place, plugin) for plugin in plugins))
    wheels = [str(wheel) for wheel in (place / "wheels").glob("*.whl")]
    environment.run("pip", "--disable-pip-version-check", "-q", "install", "--no-deps", *wheels)
    yield environment
    environment.run("pip", "-q", "uninstall", "-y", *(plugin.package for plugin in plugins))


def write(place: Path, plugin: Broken) -> Path:
    """The source directory of a broken plugin."""
    source = place / plugin.package
    source.mkdir()
    (source / f"{plugin.module}.py").write_text(plugin.source)
    (source / "pyproject.toml").write_text(
        f"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{plugin.package}"
version = "0.1.0"

[project.entry-points.iii_skill]
{plugin.module} = "{plugin.module}"

[tool.hatch.build.targets.wheel]
include = ["{plugin.module}.py"]
"""
    )
    return source


@pytest.fixture
def interpreter(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of this test run in the environment."""
    monkeypatch.setattr(sys, "executable", environment.python)
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)


def test_the_stranger_is_listed_beside_ours(environment: Environment) -> None:
    report = environment.adapters()
    assert [adapter["name"] for adapter in report["adapters"]] == [
        "file",
        "lmdb",
        "memory",
        "postgres",
        "redis",
    ]
    (lmdb,) = [adapter for adapter in report["adapters"] if adapter["name"] == "lmdb"]
    assert (lmdb["package"], lmdb["version"], lmdb["durability"]) == ("acme-iii-lmdb", "0.3.0", "disk")
    assert report["failed"] == []


@pytest.mark.usefixtures("interpreter")
async def test_the_host_serves_the_stranger_and_keeps_its_data(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "lmdb", "--data-dir", str(tmp_path / "data")) as host:
        assert host.ready["adapter"] == "lmdb"
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "s", "key": "k", "value": {"n": 9007199254740993}})
            await client.result(
                "state::update",
                {"scope": "s", "key": "k", "ops": [{"type": "increment", "path": "hits", "by": 2}]},
            )
        host.restart()
        async with raw_client(host.ws) as client:
            value = await client.result("state::get", {"scope": "s", "key": "k"})
            assert value == {"n": 9007199254740993, "hits": 2}
    assert (tmp_path / "data" / "data.mdb").is_file()


def test_the_stranger_passes_the_kit_with_pytest_alone(environment: Environment, tmp_path: Path) -> None:
    shutil.copy(LMDB / "test_lmdb.py", tmp_path)
    packages = environment.run("pip", "--disable-pip-version-check", "list", "--format=freeze")
    assert "pytest-" not in packages
    output = environment.run("pytest", "-q", "-p", "no:cacheprovider", directory=tmp_path)
    assert "passed" in output.splitlines()[-1]
    assert "failed" not in output


def test_the_stranger_passes_the_kit_by_command(environment: Environment) -> None:
    report = json.loads(
        environment.run("iii-skill", "adapter", "test", "lmdb", "--only", "crashes", "--json")
    )
    assert (report["ok"], report["failed"], report["package"]) == (True, 0, "acme-iii-lmdb")


def test_every_broken_plugin_is_named_with_the_reason(broken: Environment) -> None:
    failed = broken.adapters()["failed"]
    for plugin in BROKEN:
        reasons = [entry["reason"] for entry in failed if entry["package"] == plugin.package]
        assert reasons, f"{plugin.package} is not reported"
        assert [part for part in plugin.reasons if part not in reasons[0]] == [], reasons[0]
    assert {entry["package"] for entry in failed} == {p.package for p in BROKEN} | {"acme-iii-lmdb"}


def test_the_sound_adapters_are_still_there(broken: Environment) -> None:
    names = [adapter["name"] for adapter in broken.adapters()["adapters"]]
    assert names == ["file", "memory", "postgres", "redis", "sulky"]


@pytest.mark.usefixtures("broken", "interpreter")
async def test_the_host_starts_with_the_others(tmp_path: Path) -> None:
    with running_host(tmp_path, "--adapter", "file", "--data-dir", str(tmp_path / "data")) as host:
        async with raw_client(host.ws) as client:
            await client.result("state::set", {"scope": "s", "key": "k", "value": 1})
            assert await client.result("state::get", {"scope": "s", "key": "k"}) == 1
        for plugin in BROKEN:
            assert plugin.module in host.stderr


REFUSED = {
    "two adapters of one name": ("lmdb", ("acme-iii-lmdb 0.3.0", "acme-iii-same-name 0.1.0")),
    "an open that raises": ("sulky", SULKY.reasons),
    "an adapter of a plugin that failed": ("half", ("no state adapter 'half'", "acme_iii_missing_method")),
}


@pytest.mark.usefixtures("broken", "interpreter")
@pytest.mark.parametrize(("name", "reasons"), REFUSED.values(), ids=REFUSED)
def test_an_adapter_that_cannot_be_used_is_refused_by_name(
    name: str, reasons: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(HostFailed) as failed, running_host(tmp_path, "--adapter", name):
        pass
    assert failed.value.code == 1
    assert [reason for reason in reasons if reason not in failed.value.stderr] == []
    assert "Traceback" not in failed.value.stderr
