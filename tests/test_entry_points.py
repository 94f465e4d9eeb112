"""Entry points are read distribution by distribution: what is damaged is named, all others count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.distributions import adapter_source, install

from iii_skill.entry_points import read_entry_points

DAMAGED = {
    "no equals sign": b"[console_scripts]\nbroken\n",
    "no equals sign in our group": b"[iii_skill]\nbroken\n",
    "no UTF-8": b"[iii_skill]\nx = \xff\xfe\n",
    "no UTF-8 in another group": b"[gui_scripts]\n\xe9t\xe9 = x:y\n",
}


def damage(site: Path, content: bytes, *, metadata_file: bool = True) -> None:
    info = site / "damaged_thing-0.3.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_bytes(content)
    if metadata_file:
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: damaged-thing\nVersion: 0.3\n")


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    words = [sys.executable, "-m", "iii_skill", *arguments]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("metadata_file", [True, False], ids=["", "without METADATA"])
def test_a_damaged_distribution_is_named_and_the_others_are_read(
    tmp_path: Path, content: bytes, metadata_file: bool
) -> None:
    install(tmp_path, "good", adapter_source("good"))
    damage(tmp_path, content, metadata_file=metadata_file)
    points, unreadable = read_entry_points(metadata.distributions(path=[str(tmp_path)]))
    assert [point.name for point in points] == ["good"]
    assert [(dist.package.replace("_", "-"), dist.version) for dist in unreadable] == [
        ("damaged-thing", "0.3")
    ]
    assert unreadable[0].reason.startswith("its entry_points.txt cannot be read (")


def test_of_two_distributions_of_one_name_the_first_on_the_path_counts(tmp_path: Path) -> None:
    for place, version in (("first", "2.0"), ("second", "1.0")):
        (tmp_path / place).mkdir()
        install(tmp_path / place, "twice", adapter_source("twice"), version=version)
    paths = [str(tmp_path / place) for place in ("first", "second")]
    points, _ = read_entry_points(metadata.distributions(path=paths))
    assert [point.dist and point.dist.version for point in points] == ["2.0"]


def test_every_command_goes_on_and_every_listing_names_the_damaged_one(tmp_path: Path) -> None:
    damage(tmp_path, DAMAGED["no equals sign"])
    listed = command(tmp_path, "adapters", "--json")
    assert listed.returncode == 0, listed.stderr
    failed = json.loads(listed.stdout)["failed"]
    assert [(one["package"], one["version"]) for one in failed] == [("damaged-thing", "0.3")]
    templates = command(tmp_path, "scaffold", "--list", "--json")
    assert templates.returncode == 0, templates.stderr
    assert [one["package"] for one in json.loads(templates.stdout)["broken"]] == ["damaged-thing"]
    shown = command(tmp_path, "--help")
    assert (shown.returncode, "scaffold" in shown.stdout) == (0, True)
    assert "Package damaged-thing 0.3 is left out" in shown.stderr
