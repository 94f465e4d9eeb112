"""Plan: what writing a project would do, file by file; nothing is written here."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from iii_skill.scaffold.errors import UnsafePath, WriteFailed


class FileAction(StrEnum):
    """What happens to one file."""

    CREATE = "create"
    SAME = "same"
    CONFLICT = "conflict"
    SKIP = "skip"
    OVERWRITE = "overwrite"
    MERGE = "merge"
    DELETE = "delete"


WRITES = frozenset([FileAction.CREATE, FileAction.OVERWRITE, FileAction.MERGE])


@dataclass(frozen=True)
class Step:
    """One file of a plan: `content` is what it will hold, `current` what it holds now (None: no file)."""

    path: str
    action: FileAction
    content: bytes
    current: bytes | None = None
    conflicts: int = 0


def plan(destination: Path, files: Mapping[str, bytes], *, on_conflict: str) -> list[Step]:
    """A step per file; files that differ become what `on_conflict` says: fail, diff, skip or overwrite.

    WriteFailed names what cannot be read.
    """
    check_destination(destination, files)
    differs = {"skip": FileAction.SKIP, "overwrite": FileAction.OVERWRITE}.get(
        on_conflict, FileAction.CONFLICT
    )
    steps = []
    for path, content in files.items():
        current = read(destination / path)
        found = FileAction.SAME if current is not None and same_text(current, content) else differs
        action = FileAction.CREATE if current is None else found
        steps.append(Step(path, action, content, current))
    return steps


def same_text(one: bytes, other: bytes) -> bool:
    """Whether two files differ at most in how their lines end, and in a byte order mark."""
    return one == other or plain_text(one) == plain_text(other)


def plain_text(content: bytes) -> bytes:
    """The content without a byte order mark, its lines ended by LF; what is no text stays as it is."""
    if b"\0" in content:
        return content
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")


def read(path: Path) -> bytes | None:
    """What the file holds, or None when there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WriteFailed.of(error, path) from error


def check_destination(destination: Path, files: Mapping[str, bytes]) -> None:
    """Refuse a destination that is no directory, and a path that a link leads out of it or a file blocks."""
    try:
        _check_destination(destination, files)
    except OSError as error:
        raise WriteFailed.of(error, destination) from error


def _check_destination(destination: Path, files: Mapping[str, bytes]) -> None:
    nearest = next((path for path in (destination, *destination.parents) if path.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise UnsafePath(f"{nearest} is a file; choose a directory.")
    root = Path(os.path.realpath(destination))
    for path in files:
        target = destination / path
        if not Path(os.path.realpath(target)).is_relative_to(root):
            raise UnsafePath(f"{target} is a link that leads out of {destination}; remove it first.")
        for parent in target.parents:
            if parent == destination:
                break
            if parent.exists() and not parent.is_dir():
                raise UnsafePath(f"{parent} is a file, but the project needs a directory there.")
        if target.is_dir():
            raise UnsafePath(f"{target} is a directory, but the project needs a file there.")
