"""The repository as git tracks it: its root, its files, a copy of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SKILL_NAME = "iii-state-management"
MIRROR = ROOT / "skills" / SKILL_NAME


def tracked_files() -> list[Path]:
    """Every file that git tracks, relative to the root."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = sorted(Path(name) for name in os.fsdecode(listed).split("\0") if name)
    return [path for path in paths if (ROOT / path).is_file()]


def copy_tracked(target: Path) -> Path:
    """A copy of the tracked files, as a clone of the repository would have them."""
    for path in tracked_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)
    return target
