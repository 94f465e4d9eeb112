"""The package that the skill carries is the one of this checkout, and the folder stays small."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from support.tree import MIRROR, ROOT

from iii_skill import __version__

WHEEL = MIRROR / "assets" / f"iii_skill-{__version__}-py3-none-any.whl"
MOST_FILES, MOST_BYTES = 300, 3 << 19
"""What installers copy into a user's project, at most."""


def test_the_wheel_in_the_skill_is_this_package() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/bundle", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_nothing_of_the_workshop() -> None:
    with zipfile.ZipFile(WHEEL) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {Path(path).name for path in built["packages"]}
    assert tops == {*packages, f"iii_skill-{__version__}.dist-info"}
    assert {"iii_skill", "iii_state_file", "iii_state_memory", "iii_state_redis"} <= packages


def test_the_skill_is_small_enough_to_be_copied_into_every_project() -> None:
    sizes = [path.stat().st_size for path in MIRROR.rglob("*") if path.is_file()]
    assert len(sizes) <= MOST_FILES
    assert sum(sizes) <= MOST_BYTES
