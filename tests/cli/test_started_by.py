"""The command that a project's next steps name starts the very program that wrote them."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support.skill_tools import clean_environment, python_tools
from support.tree import copy_tracked

from iii_skill.cli.started_by import present_extras, requirement

REQUIRES = """Requires-Dist: click>=8
Requires-Dist: pluggy>=1; extra == "there"
Requires-Dist: no-such-package-here; extra == 'absent'
Requires-Dist: pluggy; extra == 'half'
Requires-Dist: no-such-package-here; extra == 'half'
"""


def distribution(
    site: Path, origin: Mapping[str, Any] | None, *, requires: str = ""
) -> metadata.Distribution:
    info = site / "iii_skill-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: iii-skill\nVersion: 0.1.0\n{requires}")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
    return metadata.Distribution.at(info)


GIT = {"url": "https://example.org/a/iii.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
FORMS: dict[str, tuple[Mapping[str, Any] | None, str, str]] = {
    "index": (None, "iii-skill==0.1.0", "iii-skill[there]==0.1.0"),
    "directory": (
        {"url": "file:///a%20b/iii", "dir_info": {}},
        "/a b/iii",
        "/a b/iii[there]",
    ),
    "wheel": ({"url": "file:///x/i.whl", "archive_info": {}}, "/x/i.whl", "/x/i.whl[there]"),
    "git": (
        GIT,
        "git+https://example.org/a/iii.git@0123abc",
        "iii-skill[there] @ git+https://example.org/a/iii.git@0123abc",
    ),
    "git, a revision": (
        {**GIT, "vcs_info": {"vcs": "git", "requested_revision": "v1"}},
        "git+https://example.org/a/iii.git@v1",
        "iii-skill[there] @ git+https://example.org/a/iii.git@v1",
    ),
    "git, a folder in it": (
        {**GIT, "subdirectory": "python"},
        "git+https://example.org/a/iii.git@0123abc#subdirectory=python",
        "iii-skill[there] @ git+https://example.org/a/iii.git@0123abc#subdirectory=python",
    ),
    "git, on this machine": (
        {**GIT, "url": "file:///srv/iii.git"},
        "git+file:///srv/iii.git@0123abc",
        "iii-skill[there] @ git+file:///srv/iii.git@0123abc",
    ),
    "archive": (
        {"url": "https://example.org/iii.tar.gz", "archive_info": {}},
        "iii-skill @ https://example.org/iii.tar.gz",
        "iii-skill[there] @ https://example.org/iii.tar.gz",
    ),
}


@pytest.mark.parametrize(("origin", "plain", "with_extra"), FORMS.values(), ids=FORMS)
def test_the_place_it_came_from_is_written_as_installers_read_it(
    tmp_path: Path, origin: Mapping[str, Any] | None, plain: str, with_extra: str
) -> None:
    (tmp_path / "plain").mkdir()
    assert requirement(distribution(tmp_path / "plain", origin)) == plain
    (tmp_path / "extra").mkdir()
    assert requirement(distribution(tmp_path / "extra", origin, requires=REQUIRES)) == with_extra


def test_an_extra_counts_when_all_of_its_packages_are_there(tmp_path: Path) -> None:
    assert present_extras(distribution(tmp_path, None, requires=REQUIRES)) == ["there"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", ["directory", "git"])
def test_the_printed_next_step_works_after_uvx(tmp_path: Path, source: str) -> None:
    environment = clean_environment(tmp_path / "home", python_tools())
    checkout = copy_tracked(tmp_path / "iii skill")
    origin = f"{checkout}[redis]"
    if source == "git":
        git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.com"]
        for words in (["init", "-q", "-b", "trunk"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
            subprocess.run([*git, *words], check=True)
        origin = f"iii-skill[redis] @ git+{checkout.as_uri()}@trunk"

    def run(command: list[str]) -> str:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    written = run(["uvx", "--from", origin, "iii-skill", "scaffold", "python", "w", "--defaults", "--json"])
    (serve,) = [step["run"] for step in json.loads(written)["next"] if " serve " in step["run"]]
    again = shlex.split(serve)[: shlex.split(serve).index("serve")]
    assert again[0] == "uvx"
    assert "[redis]" in again[2]
    listed = run([*again, "adapters", "--json"])
    assert "redis" in {adapter["name"] for adapter in json.loads(listed)["adapters"]}
