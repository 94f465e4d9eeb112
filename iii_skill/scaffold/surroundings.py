"""Surroundings: what lies around the place of a project and changes what has to be written there."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any


def surroundings(destination: Path) -> dict[str, bool]:
    """Values for templates: `cargo_member` when a Cargo workspace above counts the project as its own."""
    place = Path(os.path.abspath(destination))
    for folder in place.parents:
        workspace = _workspace(folder / "Cargo.toml")
        if workspace is not None:
            return {"cargo_member": _is_member(place.relative_to(folder).as_posix(), workspace)}
    return {"cargo_member": False}


def _workspace(manifest: Path) -> Mapping[str, Any] | None:
    try:
        found = tomllib.loads(manifest.read_text(encoding="utf-8")).get("workspace")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_member(path: str, workspace: Mapping[str, Any]) -> bool:
    """As Cargo decides it: patterns of `members` match whole paths, `exclude` names folders."""
    excluded = (str(folder).rstrip("/") for folder in workspace.get("exclude", ()))
    if any(path == folder or path.startswith(f"{folder}/") for folder in excluded):
        return False
    return any(_matches(path, str(pattern).strip("/")) for pattern in workspace.get("members", ()))


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.removeprefix("./").split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
