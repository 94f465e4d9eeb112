"""What would be published is looked at before it is; the documentation site is built of the same pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.host import running_host
from support.sdk import tool
from support.skill_tools import clean_environment, python_tools
from support.tree import ROOT, copy_tracked

from iii_skill import __version__

pytestmark = pytest.mark.timeout(600)

SITE = ROOT / ".cache" / "site" / "html"


def done(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def checked() -> subprocess.CompletedProcess[str]:
    """The check of this checkout; afterwards the tools of a release are installed."""
    return done(ROOT / "scripts" / "release", "check")


def test_this_checkout_could_be_published(checked: subprocess.CompletedProcess[str]) -> None:
    assert checked.stdout == f"iii_skill-{__version__} can be published\n", checked.stderr[-2000:]
    assert checked.returncode == 0
    assert re.search(r"sha256 [0-9a-f]{64}  iii_skill-.*\.whl", checked.stderr)


def test_each_disagreement_is_named(checked: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    copy = copy_tracked(tmp_path / "copy")

    def edit(name: str, old: str, new: str) -> None:
        text = (copy / name).read_text("utf-8")
        assert old in text, name
        (copy / name).write_text(text.replace(old, new, 1), "utf-8")

    edit("plugin.json", __version__, "9.9.9")
    edit("pyproject.toml", '  "pluggy>=1.5",', '  "pluggy>=1.5",\n  "attrs>=23",')
    edit("pyproject.toml", 'Changelog = "', 'History = "')
    edit(
        "pyproject.toml", 'authors = [{ name = "iii-skill contributors" }]', 'authors = [{ name = "N. N." }]'
    )
    edit("CHANGELOG.md", f"## {__version__} - ", f"## {__version__}.1 - ")
    workflow = ".github/workflows/release.yml"
    edit(
        workflow, "pypa/gh-action-pypi-publish@dc37677b2e1c63e2034f94d8a5b11f265b73ba33 # v1.14.2", "a/b@main"
    )
    git = [tool("git"), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "all"]):
        assert done(*git, *words, cwd=copy).returncode == 0
    python = ROOT / ".cache" / "release" / "bin" / "python"
    found = done(python, copy / "scripts" / "release.py", "check", "--tag", "v1.0.0", cwd=copy)
    assert found.returncode == 1
    for sentence in (
        f"plugin.json says version 9.9.9, pyproject.toml says {__version__}",
        "iii_skill/sbom.cdx.json is stale: run scripts/release sbom",
        "[project.urls] lacks Changelog",
        f"the first heading of CHANGELOG.md is not {__version__}",
        f"the tag is v1.0.0, the version {__version__}",
        f"CHANGELOG.md gives {__version__} no date",
        "release.yml: not pinned by hash and version: - uses: a/b@main",
        "zizmor: error[unpinned-uses]",
    ):
        assert sentence in found.stdout, found.stdout


def test_the_site_has_every_page_and_every_command() -> None:
    built = done(ROOT / "scripts" / "site")
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {str(path.parent.relative_to(SITE)) for path in SITE.rglob("index.html")}
    assert {".", "commands", "SKILL", "SECURITY", "CONTRIBUTING", "CHANGELOG", "docs/architecture"} <= pages
    assert {f"references/{path.stem}" for path in (ROOT / "references").glob("*.md")} <= pages
    navigation = (ROOT / "docs" / "zensical.toml").read_text("utf-8")
    unlisted = [
        path.name
        for path in (ROOT / "references").glob("*.md")
        if f"references/{path.name}" not in navigation
    ]
    assert unlisted == []
    commands = (SITE / "commands" / "index.html").read_text("utf-8")
    for name in (
        "iii-skill serve",
        "iii-skill state get",
        "iii-skill scaffold update",
        "iii-skill adapter test",
    ):
        assert f'id="{name.replace(" ", "-")}"' in commands, name


def test_a_dead_link_stops_the_site(tmp_path: Path) -> None:
    """The generator is strict: the same pages with one wrong link are refused."""
    shutil.copytree(ROOT / ".cache" / "site", tmp_path / "site")
    page = tmp_path / "site" / "pages" / "references" / "stores.md"
    page.write_text(page.read_text("utf-8") + "\n[gone](nowhere.md)\n", "utf-8")
    zensical = ROOT / ".cache" / "site-tools" / "bin" / "zensical"
    built = done(
        zensical, "build", "--clean", "--strict", "--config-file", tmp_path / "site" / "zensical.toml"
    )
    assert built.returncode != 0
    assert "page does not exist" in built.stderr


def test_the_contributing_page_names_scripts_that_exist() -> None:
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        for script in re.findall(r"scripts/[a-z]+", (ROOT / name).read_text("utf-8")):
            assert os.access(ROOT / script, os.X_OK), script


def test_the_worker_manifest_serves_state_inside_an_engine(tmp_path: Path) -> None:
    """`iii worker add` runs `scripts.install`, then `scripts.start` with III_URL; here with no sandbox."""
    source = copy_tracked(tmp_path / "source")
    manifest = yaml.safe_load((source / "iii.worker.yaml").read_text("utf-8"))
    assert re.fullmatch(r"[a-z][a-z0-9-]*", manifest["name"])
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    env = clean_environment(tmp_path / "home", tmp_path / "venv" / "bin", python_tools())
    env["VIRTUAL_ENV"] = str(tmp_path / "venv")
    install = manifest["scripts"]["install"].replace("pip install", "uv pip install --quiet", 1)
    (tmp_path / "engine").mkdir()
    subprocess.run(install, shell=True, cwd=source, env=env, check=True)
    with running_host(tmp_path / "engine", "--no-state") as engine:
        start = subprocess.Popen(
            "exec " + manifest["scripts"]["start"] + " --ready-json",
            shell=True,
            cwd=tmp_path,
            env=env | {"III_URL": engine.ws},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert start.stdout is not None
            assert '"adapter":"file"' in start.stdout.readline().replace(" ", "")
            trigger = [tmp_path / "venv" / "bin" / "iii-skill", "trigger", "--url", engine.ws]
            done(*trigger, "state::set", "scope=shop", "key=chair", "value=9007199254740993")
            assert (
                done(*trigger, "state::get", "scope=shop", "key=chair").stdout.strip() == "9007199254740993"
            )
            assert (tmp_path / "state").is_dir()
        finally:
            start.terminate()
            assert start.wait(20) == 0
            start.stdout.close()
