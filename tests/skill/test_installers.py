"""Every installer puts the whole skill in place, for every agent, from a directory and from a git URL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.skill_tools import bare_environment, clean_environment, node22, npm_program, python_tools
from support.tree import SKILL_NAME, copy_tracked

AGENTS = ("claude-code", "codex", "cursor", "gemini-cli", "opencode", "github-copilot")
SOURCES = ("directory", "git-file-url", "git-https-url", "mirror-directory")
GITHUB = "https://github.com/iii-skill/iii-skill"


@dataclass(frozen=True)
class Installer:
    """A package of the npm registry at one version, and the Node that runs it."""

    package: str
    version: str
    node: str = "node"
    sources: tuple[str, ...] = SOURCES

    def command(self) -> list[str]:
        """The start of its command line."""
        program = npm_program(self.package, self.version)
        return [node22() if self.node == "node22" else "node", program]

    def __str__(self) -> str:
        return f"{self.package}@{self.version}"


INSTALLERS = (
    Installer("skills", "1.4.9"),
    Installer("skills", "1.5.0"),
    Installer("skills", "1.5.18"),
    Installer("skills", "1.7.4", "node22"),
    Installer("add-skill", "1.0.24"),
    Installer("add-skill", "2.0.0", sources=("directory", "git-https-url")),
)
"""The newest that runs on Node 20 and on Node 22, and the older ones whose rules of copying differ."""
pytestmark = pytest.mark.timeout(900)
"""Six installers one after the other, or an installation by pip: bounded by the load alone."""
MOST_FILES, MOST_BYTES = 300, 3 << 19
"""What lands in a user's project, at most."""
ROWS: dict[tuple[str, str, str], str] = {}


@dataclass(frozen=True)
class Origin:
    """The repository to install from, as a directory and as a bare clone."""

    directory: Path
    bare: Path

    def url(self, source: str) -> str:
        """What is written on the command line."""
        mirror = self.directory / "skills" / SKILL_NAME
        return {
            "directory": str(self.directory),
            "git-file-url": self.bare.as_uri(),
            "git-https-url": f"{GITHUB}.git",
            "mirror-directory": str(mirror),
        }[source]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    base = tmp_path_factory.mktemp("origin")
    directory, bare = base / "checkout", base / "iii-skill.git"
    copy_tracked(directory)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], cwd=directory, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(directory), str(bare)], check=True)
    subprocess.run(["rm", "-rf", str(directory / ".git")], check=True)
    return Origin(directory, bare)


@pytest.fixture(scope="module", autouse=True)
def matrix(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print what was installed, as a table."""
    yield
    lines = ["", f"{'installer':18} {'source':18} " + " ".join(f"{agent:15}" for agent in AGENTS)]
    for installer in map(str, INSTALLERS):
        for source in SOURCES:
            cells = [ROWS.get((installer, source, agent), "-") for agent in AGENTS]
            if set(cells) != {"-"}:
                lines.append(f"{installer:18} {source:18} " + " ".join(f"{cell:15}" for cell in cells))
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n".join(lines))


def install(installer: Installer, source: str, agent: str, origin: Origin, base: Path) -> list[Path]:
    """Run the installer in an empty project; the folders that then hold the skill."""
    home, project = base / "home", base / "project"
    project.mkdir()
    environment = clean_environment(home)
    settings = home / ".gitconfig"
    settings.write_text(f'[url "{origin.bare.as_uri()}"]\n\tinsteadOf = {GITHUB}.git\n')
    command = [*installer.command(), "add"] if installer.package == "skills" else installer.command()
    done = subprocess.run(
        [*command, origin.url(source), "-y", "-a", agent],
        cwd=project,
        env=environment | {"GIT_CONFIG_GLOBAL": str(settings)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = [path.parent for path in project.glob(f".*/**/skills/{SKILL_NAME}/SKILL.md")]
    found = [folder for folder in found if SKILL_NAME not in folder.parent.parts]
    assert found, f"{installer} {source} {agent}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return found


def lost_files(folder: Path, origin: Origin) -> list[str]:
    """The files of the skill that are not in the installed folder as they are in the repository.

    The oldest installer copies the whole repository but for its README and what begins with `_` or `.`.
    """
    whole = (folder / "pyproject.toml").is_file()
    source = origin.directory if whole else origin.directory / "skills" / SKILL_NAME
    names = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    return [
        str(name)
        for name in names
        if not any(part[0] in "._" for part in name.parts) and not (whole and name.name == "README.md")
        if not (folder / name).is_file() or (folder / name).read_bytes() != (source / name).read_bytes()
    ]


@pytest.mark.parametrize(
    ("installer", "source"),
    [(installer, source) for installer in INSTALLERS for source in installer.sources],
    ids=str,
)
def test_skill_is_complete_for_every_agent(
    installer: Installer, source: str, origin: Origin, tmp_path: Path
) -> None:
    for agent in AGENTS:
        base = tmp_path / agent
        base.mkdir()
        for folder in install(installer, source, agent, origin, base):
            assert lost_files(folder, origin) == []
            nested = {
                str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.lower() == "skill.md"
            }
            assert nested <= {"SKILL.md", f"skills/{SKILL_NAME}/SKILL.md"}
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        if str(installer) != "add-skill@1.0.24":  # it knows no `internal`
            assert len(sizes) <= MOST_FILES
            assert sum(sizes) <= MOST_BYTES
        ROWS[str(installer), source, agent] = f"ok, {len(sizes)} files"


@pytest.mark.parametrize("installer", [INSTALLERS[1], INSTALLERS[3]], ids=str)
def test_installed_skill_scaffolds_a_worker(installer: Installer, origin: Origin, tmp_path: Path) -> None:
    """1.5.0 drops every file that begins with a dot, 1.7.4 is the newest."""
    (folder,) = install(installer, "git-https-url", "codex", origin, tmp_path)
    launcher = folder / "scripts" / "iii_skill_run.py"
    done = subprocess.run(
        [sys.executable, str(launcher), "scaffold", "python", "state-management", "--defaults"],
        cwd=tmp_path / "project",
        env=clean_environment(tmp_path / "home", python_tools()),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"uvx --from {folder}/assets/iii_skill-" in done.stderr
    produced = (tmp_path / "project" / "state-management" / "state_management.py").read_text()
    assert "products::create" in produced


@pytest.mark.parametrize("installer", [INSTALLERS[2], INSTALLERS[3]], ids=str)
def test_installed_skill_stores_a_value_where_only_python_is(
    installer: Installer, origin: Origin, tmp_path: Path
) -> None:
    """No uv, no iii-skill, an empty HOME: the first start installs the wheel in the skill, the next none."""
    (folder,) = install(installer, "git-https-url", "codex", origin, tmp_path)
    programs, project = tmp_path / "programs", tmp_path / "project"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    environment = bare_environment(tmp_path / "new home", programs)
    launcher = [str(programs / "python3"), str(folder / "scripts" / "iii_skill_run.py")]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*launcher, *words], cwd=project, env=environment, capture_output=True, text=True, timeout=300
        )

    way = json.loads(run("--how", "serve").stdout)
    assert way["way"] == "virtual environment, wheel in the skill"
    serve = [*launcher, "serve", "--port", "0", "--http-port", "0", "--ready-json"]
    for number in (1, 2):
        log = tmp_path / f"log{number}"
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                serve, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            ) as host,
        ):
            assert host.stdout is not None
            line = host.stdout.readline()
            assert line, log.read_text()
            try:
                ready = json.loads(line)
                assert ready["pid"] == host.pid
                if number == 1:
                    stored = run("state", "set", "--url", ready["ws"], "shop", "pen", '{"id": "pen"}')
                    assert stored.returncode == 0, stored.stderr
                found = run("state", "get", "--url", ready["ws"], "shop", "pen")
                assert json.loads(found.stdout) == {"id": "pen"}, found.stderr
            finally:
                host.terminate()
            assert host.wait(timeout=30) == 0
        assert ("installing" in log.read_text()) == (number == 1)
